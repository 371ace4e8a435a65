package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// at has the rig send to this path of the MCP listener.
func (r *rig) at(path string) *rig {
	r.url = r.server.URL + path
	return r
}

func TestTheEndpointWithASlashIsTheEndpoint(t *testing.T) {
	r := start(t, setup{}).open().at("/mcp/")
	p := r.send(http.MethodPost, initializeBody)
	token := "Mcp-Session-Id: " + p.header.Get("Mcp-Session-Id")
	if p.status != http.StatusOK {
		t.Fatalf("initialize: answered %d %s", p.status, p.body)
	}
	if p := r.at("/mcp").send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, token); p.status != http.StatusOK {
		t.Errorf("the session is not known without the slash: %d %s", p.status, p.body)
	}
	if p := r.at("/mcp/").send(http.MethodDelete, "", token); p.status != http.StatusNoContent {
		t.Errorf("DELETE: answered %d %s", p.status, p.body)
	}
}

func TestAWrongAddressSaysWhereTheEndpointIsInTheFormThatItsSenderReads(t *testing.T) {
	r := start(t, setup{}).open()
	url := r.server.URL + "/mcp"
	for _, path := range []string{"/", "/sse", "/message", "/messages?sessionId=1", "/MCP", "/mcp/x", "/api/v1/sessions", "/%22%0a"} {
		r.at(path)
		p := r.send(http.MethodPost, initializeBody)
		var message struct {
			JSONRPC string
			Error   struct{ Message string }
		}
		if err := json.Unmarshal([]byte(p.body), &message); err != nil || p.status != http.StatusNotFound || message.JSONRPC != "2.0" ||
			!strings.Contains(message.Error.Message, url+" (Streamable HTTP") {
			t.Errorf("POST %s: answered %d %s", path, p.status, p.body)
		}
		for _, accept := range []string{"text/event-stream", "text/html, text/event-stream", "text/html;q=0, */*", "*/*", ""} {
			p := r.send(http.MethodGet, "", "Accept: "+accept)
			want := http.StatusNotFound
			if path == "/" {
				want = http.StatusOK
			}
			if p.status != want || !strings.HasPrefix(p.header.Get("Content-Type"), "text/plain") || !strings.Contains(p.body, url) ||
				strings.Count(p.body, "\n") != 1 {
				t.Errorf("GET %s for %q: answered %d %s", path, accept, p.status, p.body)
			}
		}
		p = r.send(http.MethodGet, "", "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
		if !strings.HasPrefix(p.header.Get("Content-Type"), "text/html") || !strings.Contains(p.body, url) {
			t.Errorf("a browser at %s gets %d %v %s", path, p.status, p.header, p.body)
		}
	}
	if keys := r.stored(); len(keys) > 0 {
		t.Errorf("the store holds %q", keys)
	}
}

func TestHEADOfTheRootIsAnsweredLikeGET(t *testing.T) {
	r := start(t, setup{}).open().at("/")
	if p := r.send(http.MethodHead, ""); p.status != http.StatusOK || p.body != "" {
		t.Errorf("answered %d %q", p.status, p.body)
	}
}

func TestAClientOfHTTPSSEHearsThatThisIsStreamableHTTP(t *testing.T) {
	r := start(t, setup{}).open()
	for _, accept := range []string{"text/event-stream", "*/*", "application/json, text/event-stream"} {
		p := r.send(http.MethodGet, "", "Accept: "+accept)
		if p.status != http.StatusBadRequest || !strings.Contains(p.body, "Streamable HTTP and not HTTP+SSE") ||
			!strings.Contains(p.body, "Mcp-Session-Id") {
			t.Errorf("%s: answered %d %s", accept, p.status, p.body)
		}
	}
}

func TestAResumedStreamWithoutASessionIsNotTakenForHTTPSSE(t *testing.T) {
	r := start(t, setup{}).open()
	p := r.send(http.MethodGet, "", "Accept: text/event-stream", "Last-Event-ID: 1")
	if p.status != http.StatusBadRequest || strings.Contains(p.body, "HTTP+SSE") {
		t.Errorf("answered %d %s", p.status, p.body)
	}
}

func TestABrowserAtTheEndpointGetsAPage(t *testing.T) {
	r := start(t, setup{}).open()
	p := r.send(http.MethodGet, "", "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Site: none")
	if p.status != http.StatusOK || !strings.Contains(p.body, "for MCP clients") || p.header.Get("Content-Security-Policy") == "" {
		t.Errorf("answered %d %v %s", p.status, p.header, p.body)
	}
}
