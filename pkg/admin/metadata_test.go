package admin_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/session"
)

// patch changes the metadata of a session.
func (r *rig) patch(id, body string, headers ...string) reply {
	r.t.Helper()
	return r.send(
		http.MethodPatch,
		"/api/v1/sessions/"+id+"/metadata",
		body,
		append([]string{"Content-Type: application/json"}, headers...)...)
}

// metadata returns the metadata of a session from the API.
func (r *rig) metadata(id string) map[string]string {
	r.t.Helper()
	var v struct{ Metadata map[string]json.RawMessage }
	r.get("/api/v1/sessions/"+id, &v)
	return texts(v.Metadata)
}

func texts(metadata map[string]json.RawMessage) map[string]string {
	all := map[string]string{}
	for key, value := range metadata {
		all[key] = strings.Join(strings.Fields(string(value)), "")
	}
	return all
}

func TestMetadataIsMergedAndNullRemoves(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{ClientName: "probe"})
	other, _ := r.session(session.Session{})
	for _, x := range []struct {
		body string
		want map[string]string
	}{
		{`{}`, map[string]string{}},
		{`{"a":1,"b":{"x":[1.50,null],"y":null}}`, map[string]string{"a": "1", "b": `{"x":[1.50,null],"y":null}`}},
		{`{"b":"two","c":false}`, map[string]string{"a": "1", "b": `"two"`, "c": "false"}},
		{`{"a":null,"nothing":null}`, map[string]string{"b": `"two"`, "c": "false"}},
		{" {\"\u00e9\" : \"\u00e9\"}\n", map[string]string{"b": `"two"`, "c": "false", "é": `"é"`}},
		{`{"b":null,"c": null ,"é":null}`, map[string]string{}},
	} {
		p := r.patch(s.ID, x.body)
		var v struct {
			SessionID, ClientName string
			Metadata              map[string]json.RawMessage
		}
		if err := json.Unmarshal([]byte(p.body), &v); err != nil || p.status != http.StatusOK || v.SessionID != s.ID || v.ClientName != "probe" {
			t.Errorf("%s: %d %s", x.body, p.status, p.body)
		}
		if got := texts(v.Metadata); !maps.Equal(got, x.want) {
			t.Errorf("%s was answered with %v, want %v", x.body, got, x.want)
		}
		if got := r.metadata(s.ID); !maps.Equal(got, x.want) {
			t.Errorf("after %s it is %v, want %v", x.body, got, x.want)
		}
	}
	if got := r.metadata(other.ID); len(got) != 0 {
		t.Errorf("another session has %v", got)
	}
}

func TestInvalidMetadataChangesNothing(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{Metadata: map[string]json.RawMessage{"k": json.RawMessage(`1`)}})
	object := func(key string, n int) string { return `{"` + key + `":"` + strings.Repeat("x", n) + `"}` }
	for name, x := range map[string]struct {
		body    string
		headers []string
		status  int
		words   string
	}{
		"no content type":       {`{"k":2}`, []string{"Content-Type: "}, 415, "application/json"},
		"a form's content type": {`{"k":2}`, []string{"Content-Type: text/plain"}, 415, "application/json"},
		"multipart":             {`{"k":2}`, []string{"Content-Type: multipart/form-data; boundary=x"}, 415, "application/json"},
		"no type at all":        {`{"k":2}`, []string{"Content-Type: ;;"}, 415, "application/json"},
		"a long body":           {object("k", 128<<10), nil, 413, "too large"},
		"a long tail":           {`{"k":2}` + strings.Repeat(" ", 128<<10), nil, 413, "too large"},
		"nothing":               {"", nil, 400, "one JSON object"},
		"half an object":        {`{"k":2`, nil, 400, "one JSON object"},
		"no value":              {`{"k":}`, nil, 400, "one JSON object"},
		"null":                  {`null`, nil, 400, "one JSON object"},
		"a list":                {`[{"k":2}]`, nil, 400, "one JSON object"},
		"a text":                {`"k"`, nil, 400, "one JSON object"},
		"a number":              {`7`, nil, 400, "one JSON object"},
		"two objects":           {`{"k":2}{"k":3}`, nil, 400, "one JSON object"},
		"an object and a value": {`{"k":2} 5`, nil, 400, "one JSON object"},
		"a brace too many":      {`{"k":2}}`, nil, 400, "one JSON object"},
		"a bracket too many":    {`{"k":2}]`, nil, 400, "one JSON object"},
		"a broken tail":         {`{"k":2}x`, nil, 400, "one JSON object"},
		"an empty key":          {`{"k":2,"":1}`, nil, 422, "a key must have"},
		"a long key":            {`{"k":2,"` + strings.Repeat("x", 129) + `":1}`, nil, 422, "a key must have"},
		"too much":              {object("k", 64<<10), nil, 422, "the limit is 65536"},
		"too deep":              {`{"k":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`, nil, 422, "too deep"},
		"another origin":        {`{"k":2}`, []string{"Origin: http://evil.example"}, 403, "Origin"},
		"no origin":             {`{"k":2}`, []string{"Origin: null"}, 403, "Origin"},
		"another host":          {`{"k":2}`, []string{"Host: evil.example"}, 403, "Host"},
	} {
		p := r.patch(s.ID, x.body, x.headers...)
		if p.status != x.status || !strings.Contains(p.body, `"error"`) || !strings.Contains(p.body, x.words) || len(p.body) > 1000 {
			t.Errorf("%s: %d %.200s", name, p.status, p.body)
		}
		if x.status == 422 && !strings.Contains(p.body, "metadata cannot be kept") {
			t.Errorf("%s: %s", name, p.body)
		}
		if got := r.metadata(s.ID); !maps.Equal(got, map[string]string{"k": "1"}) {
			t.Fatalf("%s has left %.100v", name, got)
		}
	}
	// The limit is for the whole metadata, not for one change.
	if p := r.patch(s.ID, object("a", 40<<10)); p.status != http.StatusOK {
		t.Errorf("what fits: %d %.200s", p.status, p.body)
	}
	if p := r.patch(s.ID, object("b", 40<<10)); p.status != http.StatusUnprocessableEntity {
		t.Errorf("what fits no more: %d %.200s", p.status, p.body)
	}
	if p := r.patch(s.ID, `{"a":null,`+object("b", 40<<10)[1:]); p.status != http.StatusOK {
		t.Errorf("what fits again: %d %.200s", p.status, p.body)
	}
}

func TestJSONMediaTypesAreAccepted(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{})
	for _, kind := range []string{"application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"} {
		if p := r.patch(s.ID, `{"k":1}`, "Content-Type: "+kind, "Origin: "+r.server.URL); p.status != http.StatusOK {
			t.Errorf("%s: %d %s", kind, p.status, p.body)
		}
	}
}

func TestMetadataOfAnUnknownSessionIsNotFound(t *testing.T) {
	r := start(t)
	s, token := r.session(session.Session{})
	r.do(http.MethodDelete, "/api/v1/sessions/"+s.ID)
	before := len(r.store.keys())
	for _, id := range []string{"none", s.ID, token, "index", "%2e%2e%2fx", "a%00b", strings.Repeat("a", 300)} {
		if p := r.patch(id, `{"k":1}`); p.status != http.StatusNotFound || !strings.Contains(p.body, `"error"`) {
			t.Errorf("%.60q: %d %s", id, p.status, p.body)
		}
	}
	if keys := r.store.keys(); len(keys) != before {
		t.Errorf("the store was asked for %q", keys[before:])
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if p := r.do(method, "/api/v1/sessions/"+s.ID+"/metadata"); p.status != http.StatusMethodNotAllowed && p.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", method, p.status, p.body)
		}
	}
}

func TestMetadataSurvivesARestart(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{Metadata: map[string]json.RawMessage{"gone": json.RawMessage(`1`)}})
	if p := r.patch(s.ID, `{"kept":{"a":1.50},"gone":null}`); p.status != http.StatusOK {
		t.Errorf("%d %s", p.status, p.body)
	}
	if err := r.sessions.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := session.New(&r.store.Memory, session.Config{})
	if err := next.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := next.Get(t.Context(), s.ID)
	if err != nil || !maps.Equal(texts(again.Metadata), map[string]string{"kept": `{"a":1.50}`}) {
		t.Errorf("restored %v: %v", again.Metadata, err)
	}
}
