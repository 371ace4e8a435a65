package admin

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// request returns a request that comes from peer.
func requestFrom(peer string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = peer + ":1234"
	return r
}

func TestAPlaceIsTakenFromThePeerThatHasTheMost(t *testing.T) {
	ps := newPlaces(slog.New(slog.DiscardHandler), nil)[placeMessages]
	operator := ps.enter(requestFrom("192.0.2.1"))
	var greedy []*place
	for range 100 {
		greedy = append(greedy, ps.enter(requestFrom("192.0.2.2")))
	}
	if operator.isDisplaced() {
		t.Error("somebody who took all places has the operator's, too")
	}
	second := ps.enter(requestFrom("192.0.2.1"))
	alive := 0
	for _, p := range greedy {
		if !p.isDisplaced() {
			alive++
		}
	}
	if operator.isDisplaced() || second.isDisplaced() || alive != 14 || greedy[99].isDisplaced() {
		t.Errorf("%d of the others are left", alive)
	}
	for _, p := range append(greedy, operator, second) {
		ps.leave(p)
	}
	if len(ps.taken) != 0 {
		t.Errorf("%d places were not given back", len(ps.taken))
	}
}

func TestAPlaceThatWasGivenBackIsFree(t *testing.T) {
	ps := newPlaces(slog.New(slog.DiscardHandler), nil)[placeProfile]
	for range 3 {
		p := ps.enter(requestFrom("192.0.2.1"))
		if p.before != nil {
			t.Error("it was taken from somebody")
		}
		ps.leave(p)
	}
}

// Profiles of the processor and traces cannot be taken in virtual time.
func TestTheTimeOfEveryProfileIsLimited(t *testing.T) {
	for query, want := range map[string]int{"": 30, "?seconds=": 30, "?seconds=-1": 30, "?seconds=x": 30, "?seconds=5": 5,
		"?seconds=3600": 60, "?seconds=1e300": 60} {
		if got := secondsOf(httptest.NewRequest(http.MethodGet, "/"+query, nil), usualProfile); got != want {
			t.Errorf("%q: %d s, want %d", query, got, want)
		}
	}
}

// dated is an answer whose time to be written is known.
type dated struct {
	*httptest.ResponseRecorder
	until atomic.Pointer[time.Time]
}

func (d *dated) SetWriteDeadline(t time.Time) error {
	d.until.Store(&t)
	return nil
}

// A busy machine needs some time for the end of a profile, before the first byte of it can be sent.
func TestADisplacedProfileHasTimeToEndAndToBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{places: newPlaces(slog.New(slog.DiscardHandler), nil)}
		first := &dated{ResponseRecorder: httptest.NewRecorder()}
		go a.takeProfile(first, requestFrom("192.0.2.1"), placeProfile, 60, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			time.Sleep(4 * time.Second)
			if !first.until.Load().After(time.Now()) {
				t.Error("the time to send it is over before its end")
			}
		})
		synctest.Wait()
		begin, reached := time.Now(), false
		a.takeProfile(&dated{ResponseRecorder: httptest.NewRecorder()}, requestFrom("192.0.2.1"), placeProfile, 60,
			func(http.ResponseWriter, *http.Request) { reached = true })
		if took := time.Since(begin); !reached || took != 4*time.Second {
			t.Errorf("the newer one begins after %s: %v", took, reached)
		}
	})
}
