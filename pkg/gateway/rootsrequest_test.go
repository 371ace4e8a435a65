package gateway

import "testing"

func TestRootsRequestIsSentAgainOnlyIfItsAnswerMayBeStale(t *testing.T) {
	t.Parallel()
	type step struct {
		again, hasStream bool
		begins           bool // begin returns true
	}
	for name, x := range map[string]struct {
		steps []step
		again bool // end returns true
	}{
		"one stream":                    {[]step{{false, true, true}}, false},
		"two streams":                   {[]step{{false, true, true}, {false, true, false}}, false},
		"changed meanwhile":             {[]step{{false, true, true}, {true, true, false}}, true},
		"changed twice meanwhile":       {[]step{{false, true, true}, {true, true, false}, {true, true, false}}, true},
		"changed without a stream":      {[]step{{true, false, true}}, false},
		"a stream after such a request": {[]step{{true, false, true}, {false, true, false}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r rootsRequest
			for i, s := range x.steps {
				if got := r.begin(s.again, s.hasStream); got != s.begins {
					t.Errorf("step %d: begin returned %v", i, got)
				}
			}
			if got := r.end(); got != x.again {
				t.Errorf("end returned %v", got)
			}
			if r.end() {
				t.Error("the request is stale twice")
			}
		})
	}
}

func TestRootsRequestThatEndedIsRepeatedOnlyAfterAChange(t *testing.T) {
	t.Parallel()
	var r rootsRequest
	if !r.begin(false, true) || r.end() {
		t.Error("the first request is not sent once")
	}
	if r.begin(false, true) {
		t.Error("the roots are requested again without a change")
	}
	if !r.begin(true, true) {
		t.Error("the roots are not requested after a change")
	}
}
