package session

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestRedactReplacesSecrets(t *testing.T) {
	id, verifier := newToken()
	for _, x := range []struct{ in, out string }{
		{`{"a":1,"b":[true,null,"x",-1.50]}`, `{"a":1,"b":[true,null,"x",-1.50]}`},
		{`"plain"`, `"plain"`},
		{`{"password":"canary","Password":1,"user_password":{"canary":1},"passwd":["canary"]}`,
			`{"password":"[redacted]","Password":"[redacted]","user_password":"[redacted]","passwd":"[redacted]"}`},
		{`{"a":[{"b":{"API_KEY":"canary","apiKey":"canary","x-api-key":"canary"}}]}`,
			`{"a":[{"b":{"API_KEY":"[redacted]","apiKey":"[redacted]","x-api-key":"[redacted]"}}]}`},
		{`{"Authorization":"canary","client_secret":"canary","access_token":"canary","Set-Cookie":"canary","Mcp-Session-Id":"canary"}`,
			`{"Authorization":"[redacted]","client_secret":"[redacted]","access_token":"[redacted]",` +
				`"Set-Cookie":"[redacted]","Mcp-Session-Id":"[redacted]"}`},
		{`{"pass\u0077ord":"canary"}`, `{"password":"[redacted]"}`},
		{`{"_meta":{"progressToken":7},"maxTokens":100}`, `{"_meta":{"progressToken":7},"maxTokens":100}`},
		{`{"password":"canary","password":"canary"}`, `{"password":"[redacted]","password":"[redacted]"}`},
		{`{"text":"send it with Bearer canary.canary.canary please"}`, `{"text":"send it with Bearer [redacted] please"}`},
		{`{"text":"Authorization: Basic canary\nnext"}`, `{"text":"Authorization: [redacted]\nnext"}`},
		{`{"text":"password=canary&x=1 token: canary, api-key='canary canary'"}`,
			`{"text":"password=[redacted]&x=1 token: [redacted], api-key=[redacted]"}`},
		{`{"text":"{\"password\": \"canary\", \"n\": 1}"}`, `{"text":"{\"password\":\"[redacted]\",\"n\":1}"}`},
		{`{"text":"it is {\"password\": \"canary canary\", \"n\": 1}"}`, `{"text":"it is {\"password\": [redacted], \"n\": 1}"}`},
		{`{"text":"twice: {\\\"password\\\": \\\"canary canary\\\"}"}`, `{"text":"twice: {\\\"password\\\": [redacted]}"}`},
		{`{"uri":"https://me:canary@host/?code=canary&a=b"}`, `{"uri":"https://[redacted]host/?code=[redacted]&a=b"}`},
		{`{"text":"eyJcanarycanary.canarycanary.canary"}`, `{"text":"[redacted]"}`},
		{`{"text":"ghp_canarycanarycanary0 sk-canarycanarycanary0"}`, `{"text":"[redacted] [redacted]"}`},
		{`{"text":"` + id + `.` + verifier + `"}`, `{"text":"` + id + `.[redacted]"}`},
		{`["` + verifier + `","x_` + verifier + `Y","\u00` + fmt.Sprintf("%x", verifier[0]) + verifier[1:] + `"]`,
			`["[redacted]","x_[redacted]Y","[redacted]"]`},
		{`{"` + verifier + `":1}`, `{"[redacted]":1}`},
	} {
		out, cut := redact([]byte(x.in), 8<<10)
		if string(out) != x.out || cut {
			t.Errorf("%s\n became %s\n   want %s (cut: %v)", x.in, out, x.out, cut)
		}
	}
}

func TestRedactCutsLongValuesAndMarksThem(t *testing.T) {
	secret := `{"a":["password=` + strings.Repeat("Canary-", 1000) + `"]}`
	straddling := `{"a":"` + strings.Repeat("z ", maxText/2-5) + ` Bearer CANARY0CANARY0CANARY0CANARY0"}`
	for name, in := range map[string]string{
		"shortened": `{"a":"` + strings.Repeat("password=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy ",
			(maxText+lookahead)/51) + strings.Repeat("Canary-", 100) + `"}`,
		"text":    `{"a":"` + strings.Repeat("0123456789", 10_000) + `","b":1}`,
		"escapes": `"` + strings.Repeat(`\ud83d\ude00`, 10_000) + `"`,
		"runes":   `"` + strings.Repeat("xé€😀", 10_000) + `"`, "secret": secret, "straddling": straddling,
		"list": `[` + strings.Repeat(`{"a":"b"},`, 10_000) + `1]`, "members": `{"m":{` + strings.Repeat(`"a":[],`, 10_000) + `"b":1}}`,
		"deep":         strings.Repeat(`[`, 5_000) + strings.Repeat(`]`, 5_000),
		"deep objects": strings.Repeat(`{"a":`, 5_000) + "1" + strings.Repeat(`}`, 5_000),
		"number":       `{"a":` + strings.Repeat("1", 10_000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			out, cut := redact([]byte(in), 4<<10)
			if !cut || len(out) > 16<<10 || !json.Valid(out) || strings.Contains(strings.ToLower(string(out)), "canary") {
				t.Errorf("cut: %v, %d bytes, valid: %v: %.200s ... %.200s", cut, len(out), json.Valid(out), out, out[max(0, len(out)-200):])
			}
		})
	}
}

func TestRedactShowsNoInvalidJSON(t *testing.T) {
	for _, in := range []string{"", "canary", `{"a":"canary`, `{"a" "canary"}`, "\"\xff canary\""} {
		if out, cut := redact([]byte(in), 4<<10); string(out) != `"[cannot be read]"` || !cut {
			t.Errorf("%q became %s", in, out)
		}
	}
}

func FuzzRedactionStaysJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,"x",{"password":"y"}]}`), uint16(10))
	f.Fuzz(func(t *testing.T, in []byte, limit uint16) {
		out, _ := redact(in, 1+int(limit))
		if !json.Valid(out) {
			t.Errorf("%q became %q", in, out)
		}
	})
}
