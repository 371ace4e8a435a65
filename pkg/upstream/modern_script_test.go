package upstream

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// modernScript is a modern server over HTTP that writes its messages byte by byte. Requests that are not of the
// modern era are answered by the script.
type modernScript struct {
	*httpScript
	discovery string                                                                     // the member result or error of server/discover
	refuse    func(uri string) string                                                    // the error of a stream about uri; "" is none
	deny      string                                                                     // a URI that is not agreed to
	on        map[string]func(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) // by tool or method

	streams sync.Mutex
	open    []*scriptStream
	opened  int
}

// scriptStream is one subscriptions/listen of a modernScript.
type scriptStream struct {
	w    http.ResponseWriter
	id   string
	uris []string
	end  chan struct{}
}

const allChange = `{"tools":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"logging":{}}`

func discovery(capabilities string, versions ...string) string {
	list, _ := json.Marshal(versions)
	return `"result":{"resultType":"complete","supportedVersions":` + string(list) + `,"capabilities":` + capabilities +
		`,"instructions":"be nice",` +
		`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"modern","version":"3"}},"ttlMs":0,"cacheScope":"public"}`
}

func newModernScript(t testing.TB, configure ...func(*modernScript)) *modernScript {
	t.Helper()
	s := &modernScript{discovery: discovery(`{"tools":{}}`, protocol.ModernVersion),
		on: map[string]func(http.ResponseWriter, *http.Request, jsonrpc.Message){}}
	for _, c := range configure {
		c(s)
	}
	s.httpScript = newHTTPScript(t, func(h *httpScript) {
		h.stateful = false
		h.onPost = s.post
	})
	return s
}

// changing makes a modern server report changes.
func changing(s *modernScript) { s.discovery = discovery(allChange, protocol.ModernVersion) }

func (s *modernScript) spec() Spec {
	spec := s.httpScript.spec()
	spec.Era = protocol.AnyEra
	return spec
}

func (s *modernScript) post(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) bool {
	name, _ := jsonrpc.StringField(m.Params, "name")
	if fn := s.on[name]; m.Method == "tools/call" && fn != nil {
		s.note(m.Encode())
		fn(w, r, m)
		return true
	}
	fn := s.on[m.Method]
	switch {
	case fn != nil:
		fn(w, r, m)
	case m.Method == "server/discover":
		reply(w, m, s.discovery)
	case m.Method == "subscriptions/listen":
		s.listen(w, r, m)
	case m.Method == "initialize":
		w.WriteHeader(http.StatusNotFound)
	default:
		return false
	}
	return true
}

// reply answers a request with the member result or error.
func reply(w http.ResponseWriter, m jsonrpc.Message, member string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(m.ID)+`,`+member+`}`)
}

func (s *modernScript) listen(w http.ResponseWriter, r *http.Request, m jsonrpc.Message) {
	var p struct {
		Notifications struct {
			ToolsListChanged, ResourcesListChanged bool
			ResourceSubscriptions                  []string
		}
	}
	_ = json.Unmarshal(m.Params, &p)
	stream := &scriptStream{w: w, id: string(m.ID), end: make(chan struct{})}
	for _, uri := range p.Notifications.ResourceSubscriptions {
		if s.refuse != nil && s.refuse(uri) != "" {
			reply(w, m, `"error":`+s.refuse(uri))
			return
		}
		if uri != s.deny {
			stream.uris = append(stream.uris, uri)
		}
	}
	agreed, _ := json.Marshal(stream.uris)
	w.Header().Set("Content-Type", "text/event-stream")
	s.streams.Lock()
	s.opened++
	s.open = append(s.open, stream)
	writeEvent(w, "", `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{`+
		`"_meta":{"io.modelcontextprotocol/subscriptionId":`+
		stream.id+`},"notifications":{"toolsListChanged":true,"resourceSubscriptions":`+string(agreed)+`}}}`)
	s.streams.Unlock()
	select {
	case <-r.Context().Done():
	case <-stream.end:
	}
	s.streams.Lock()
	defer s.streams.Unlock()
	s.open = slices.DeleteFunc(s.open, func(o *scriptStream) bool { return o == stream })
}

// publish sends a notification on all streams with that uri in their filter; empty: on all.
func (s *modernScript) publish(method, uri string) {
	s.streams.Lock()
	defer s.streams.Unlock()
	for _, o := range s.open {
		if uri == "" || slices.Contains(o.uris, uri) {
			writeEvent(o.w, "", `{"jsonrpc":"2.0","method":"`+method+`","params":{"uri":"`+uri+`",`+
				`"_meta":{"io.modelcontextprotocol/subscriptionId":`+o.id+`}}}`)
		}
	}
}

// endStreams ends all streams.
func (s *modernScript) endStreams() {
	s.streams.Lock()
	defer s.streams.Unlock()
	for _, o := range s.open {
		close(o.end)
	}
	s.open = nil
}

// watched returns how many streams are open, how many there ever were, and the URIs of the newest one.
func (s *modernScript) watched() (open, ever int, uris string) {
	s.streams.Lock()
	defer s.streams.Unlock()
	if n := len(s.open); n > 0 {
		uris = strings.Join(s.open[n-1].uris, " ")
	}
	return len(s.open), s.opened, uris
}

// calls returns the bodies of the requests of that method.
func (s *modernScript) calls(method string) []jsonrpc.Message {
	var found []jsonrpc.Message
	for _, r := range s.sent("POST", `"method":"`+method+`"`) {
		m, _ := jsonrpc.Parse([]byte(r.body))
		found = append(found, m)
	}
	return found
}

// metaOf returns a member of the _meta of a request.
func metaOf(t testing.TB, m jsonrpc.Message, key string) string {
	t.Helper()
	return string(field(t, field(t, m.Params, "_meta"), key))
}
