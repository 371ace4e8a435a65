package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestKnownMembersAreThoseOfTheStruct(t *testing.T) {
	var want []string
	for f := range fields(reflect.TypeFor[Session]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		want = append(want, name)
	}
	if got := knownMembers[:]; !slices.Equal(got, want) {
		t.Errorf("knownMembers is %q; want %q", got, want)
	}
}

// fields yields the exported fields that are stored.
func fields(of reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for f := range of.Fields() {
			if f.IsExported() && f.Tag.Get("json") != "-" && !yield(f) {
				return
			}
		}
	}
}

func TestEveryMemberSurvivesEncodeAndDecode(t *testing.T) {
	s := Session{
		ID: "s1", ClientName: "probe", ClientVersion: "1", ProtocolVersion: "2025-11-25",
		Capabilities: json.RawMessage(`{"roots":{}}`), Cwd: "/src", Project: "p", UserAgent: "curl", IP: "::1",
		CreatedAt: 1, LastAccessedAt: 2, Metadata: map[string]json.RawMessage{"k": json.RawMessage(`[1]`)},
		SchemaVersion: SchemaVersion, TokenHash: hashVerifier("v"), Principal: "alice", State: Initializing,
		LogLevel: "debug", Subscriptions: []string{"file:///a"},
		Upstreams: map[string]Upstream{"docs": {SessionID: "u", ProtocolVersion: "2025-06-18"}},
		Clock:     &Reading{Boot: "b", Uptime: 3, Age: 1, At: 2},
		unknown:   map[string]json.RawMessage{"future": json.RawMessage(`{"n":1e400}`)},
	}
	value := reflect.ValueOf(s)
	for f := range fields(value.Type()) {
		if value.FieldByIndex(f.Index).IsZero() {
			t.Errorf("the test leaves %s out", f.Name)
		}
	}
	data, err := encode(s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode("s1", data)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("decode(encode(s)) = %+v, %v; want %+v", got, err, s)
	}
}

func TestMetadataIsStoredEvenIfEmpty(t *testing.T) {
	data, err := encode(Session{ID: "s1"})
	if err != nil || !bytes.Contains(data, []byte(`"metadata":{}`)) {
		t.Errorf("encode = %s, %v; mcp-hub-lite wants metadata", data, err)
	}
}

func TestMemberNamesOfRecordAreComparedExactly(t *testing.T) {
	s, err := decode("s1", []byte(`{"sessionId":"s1","clientName":"a","createdAt":1,"lastAccessedAt":1,
		"SessionID":"s2","ClientName":"b","METADATA":5,"SCHEMAVERSION":9}`))
	if err != nil || s.ClientName != "a" || len(s.unknown) != 4 {
		t.Errorf("decode = %+v, %v", s, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"sessionId":"s1","createdAt":1,"lastAccessedAt":1}`,
		`{"sessionId":"s1","clientName":"a","createdAt":1795339991818,"lastAccessedAt":1795339991818,"metadata":{}}`,
		`{"sessionId":"s1","createdAt":1,"lastAccessedAt":1,"metadata":{"a":{"b":[1e400,null]}},"capabilities":null,
		 "subscriptions":[],"upstreams":{"a":{"sessionId":"x"}},"future":{"n":12345678901234567890},"ClientName":"<é\u2028"}`,
		`{"sessionId":"s1","schemaVersion":2}`, `{"sessionId":"s2"}`, `null`, `[]`, `{`, ``,
		`{"sessionId":"s1","createdAt":1,"lastAccessedAt":1,"a":1,"a":2,"` + "\xff" + `":"` + "\xff" + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decode("s1", data)
		if err != nil {
			if s := err.Error(); len(s) > 1000 {
				t.Errorf("an error of %d bytes", len(s))
			}
			return
		}
		once, err := encode(s)
		if err != nil {
			t.Fatalf("an accepted record cannot be encoded: %v", err)
		}
		again, err := decode("s1", once)
		if err != nil {
			t.Fatalf("the encoded record is refused: %v\n%s", err, once)
		}
		if twice, err := encode(again); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("a second rewrite differs: %v\n%s\n%s", err, once, twice)
		}
		var before, after map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(data, &before), json.Unmarshal(once, &after)); err != nil {
			t.Fatal(err)
		}
		for name, value := range before {
			if !slices.Contains(knownMembers[:], name) && !sameJSON(t, value, after[name]) {
				t.Errorf("unknown member %q was %s and is %s", name, value, after[name])
			}
		}
	})
}

// sameJSON compares a and b as json.Marshal writes them: it rewrites raw JSON.
func sameJSON(t *testing.T, a, b json.RawMessage) bool {
	t.Helper()
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

func FuzzSplitToken(f *testing.F) {
	for _, seed := range []string{"", ".", "a", "a.", ".b", "a.b", "a.b.c", "..", strings.Repeat("a", 300), "\x00.\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, verifier, ok := splitToken(token)
		if !ok {
			if id, verifier := newToken(); token == id+"."+verifier {
				t.Error("a token that was issued is refused")
			}
			return
		}
		switch {
		case id == "" || strings.Contains(id, ".") || len(token) > maxToken:
			t.Errorf("%q was split into %q and %q", token, id, verifier)
		case verifier == "" && token != id, verifier != "" && token != id+"."+verifier:
			t.Errorf("%q and %q do not make %q", id, verifier, token)
		case verify(hashVerifier("another"), verifier) && verifier != "another":
			t.Errorf("%q opens a session that is not its own", verifier)
		}
	})
}

func TestErrorQuotesLittleOfADamagedRecord(t *testing.T) {
	_, err := decode("s1", []byte(`{"sessionId":"`+strings.Repeat("x", 100_000)+`","createdAt":1,"lastAccessedAt":1}`))
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("the error is %.400v", err)
	}
}
