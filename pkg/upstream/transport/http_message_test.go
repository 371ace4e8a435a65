package transport

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestStatus404AboutTheMethodIsNotAboutTheSession(t *testing.T) {
	answer := func(kind, body string) *http.Response {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.WriteString(body)
		return w.Result()
	}
	for body, want := range map[string]bool{
		`{"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"no such method"}}`:       true,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"session not found"}}`: false,
		`{"jsonrpc":"2.0","id":3,"error":{"code":-32001,"message":"session not found"}}`:    false,
		`404 page not found`: false,
	} {
		r := answer("application/json", body)
		if got := isUnknownMethod(r); got != want {
			t.Errorf("%s: %v", body, got)
		}
		if left, err := io.ReadAll(r.Body); err != nil || string(left) != body {
			t.Errorf("the body is not there any more: %q %v", left, err)
		}
	}
	if isUnknownMethod(answer("text/plain", strings.Repeat("x", 10))) {
		t.Error("plain text")
	}
}
