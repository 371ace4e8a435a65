package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// noted returns the events of a session from the API, as "type detail".
func (r *rig) noted(id string) []string {
	r.t.Helper()
	var v struct {
		Events []session.Event
		Count  int
	}
	p := r.get("/api/v1/sessions/"+id+"/events", &v)
	if p.status != http.StatusOK || v.Count != len(v.Events) {
		r.t.Errorf("%d %s", p.status, p.body)
	}
	var all []string
	for i, e := range v.Events {
		if e.SessionID != id || e.Time.IsZero() || e.Seq == 0 || (i > 0 && e.Seq <= v.Events[i-1].Seq) {
			r.t.Errorf("the event is %+v", e)
		}
		all = append(all, strings.TrimSpace(string(e.Type)+" "+e.Detail))
	}
	return all
}

func TestEventsOfASessionAreListed(t *testing.T) {
	r := start(t)
	s, token := r.session(session.Session{ClientName: payload})
	other, _ := r.session(session.Session{})
	if err := r.sessions.Update(t.Context(), s.ID, func(s *session.Session) { s.State = session.Ready }); err != nil {
		t.Fatal(err)
	}
	r.sessions.AddEvent(s.ID, session.EventUpstreamInitialised, "up")
	want := []string{"created " + payload, "initialised", "upstream_initialised up"}
	if got := r.noted(s.ID); !slices.Equal(got, want) {
		t.Errorf("shown are %q, want %q", got, want)
	}
	r.do(http.MethodDelete, "/api/v1/sessions/"+s.ID)
	if got, want := r.noted(s.ID), append(want, "ended admin"); !slices.Equal(got, want) {
		t.Errorf("of the ended session are shown %q, want %q", got, want)
	}
	if got := r.noted(other.ID); !slices.Equal(got, []string{"created"}) {
		t.Errorf("of the other session are shown %q", got)
	}
	before := len(r.store.keys())
	for _, id := range []string{"none", token, "index", "%2e%2e%2fx", "a%00b", strings.Repeat("a", 300)} {
		var problem struct{ Error string }
		if p := r.get("/api/v1/sessions/"+id+"/events", &problem); p.status != http.StatusNotFound || problem.Error == "" {
			t.Errorf("%.60q: %d %s", id, p.status, p.body)
		}
	}
	if keys := r.store.keys(); len(keys) != before {
		t.Errorf("the store was asked for %q", keys[before:])
	}
}

func TestEventsOfAStoredSessionLoadIt(t *testing.T) {
	r := start(t)
	s, _ := r.session(session.Session{})
	next := session.New(&r.store.Memory, session.Config{})
	if err := next.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	admin.New(admin.Config{Sessions: next, Pool: r.pool}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/sessions/"+s.ID+"/events", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"restored"`) || !strings.Contains(w.Body.String(), `"count": 1`) {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

// watcher reads an event stream in a goroutine of its own.
type watcher struct {
	t      *testing.T
	status int
	header http.Header
	blocks chan string // closed at the end of the stream
	cancel context.CancelFunc
}

// watch opens the stream of session events. It returns when the hub sends them.
func (r *rig) watch(query string) *watcher {
	r.t.Helper()
	w := r.stream("/api/v1/events" + query)
	if w.status == http.StatusOK {
		if first := w.next(); first != ": session events" {
			r.t.Errorf("the stream begins with %q", first)
		}
	}
	return w
}

// stream opens the stream of events at path.
func (r *rig) stream(path string) *watcher {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	response := r.open(ctx, http.MethodGet, path, "")
	w := &watcher{t: r.t, status: response.StatusCode, header: response.Header, blocks: make(chan string, 1024), cancel: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(w.blocks)
		defer func() { _ = response.Body.Close() }()
		read(bufio.NewReader(response.Body), w.blocks)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// read sends the blocks between empty lines to blocks.
func read(lines *bufio.Reader, blocks chan<- string) {
	block := ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if block += line; line == "\n" {
			blocks <- strings.TrimSpace(block)
			block = ""
		}
	}
}

func (w *watcher) next() string {
	w.t.Helper()
	select {
	case block, ok := <-w.blocks:
		if !ok {
			w.t.Fatal("the stream has ended")
		}
		return block
	case <-time.After(patience):
		w.t.Fatal("the stream has sent nothing")
		return ""
	}
}

// event returns the next event, which must be well formed.
func (w *watcher) event() session.Event {
	w.t.Helper()
	block := w.next()
	lines := strings.Split(block, "\n")
	var e session.Event
	if len(lines) != 3 || json.Unmarshal([]byte(strings.TrimPrefix(lines[2], "data: ")), &e) != nil ||
		lines[0] != fmt.Sprintf("id: %d", e.Seq) || lines[1] != "event: "+string(e.Type) || e.Time.IsZero() {
		w.t.Errorf("not an event: %q", block)
	}
	return e
}

func TestEventsAreStreamedAsTheyHappen(t *testing.T) {
	r := start(t)
	old, _ := r.session(session.Session{})
	w := r.watch("")
	if w.header.Get("Content-Type") != "text/event-stream" || w.header.Get("X-Accel-Buffering") != "no" ||
		w.header.Get("Cache-Control") != "no-store" {
		t.Errorf("answered with %v", w.header)
	}
	s, _ := r.session(session.Session{ClientName: "two\nlines\r\n\r\ndata: {}"})
	r.sessions.AddEvent(s.ID, session.EventStreamOpened, "get_sse")
	r.do(http.MethodDelete, "/api/v1/sessions/"+old.ID)
	last := int64(0)
	for _, want := range []session.Event{
		{SessionID: s.ID, Type: session.EventCreated, Detail: "two\nlines\r\n\r\ndata: {}"},
		{SessionID: s.ID, Type: session.EventStreamOpened, Detail: "get_sse"},
		{SessionID: old.ID, Type: session.EventEnded, Detail: "admin"},
	} {
		got := w.event()
		if got.SessionID != want.SessionID || got.Type != want.Type || got.Detail != want.Detail || got.Seq <= last {
			t.Errorf("streamed was %+v, want %+v", got, want)
		}
		last = got.Seq
	}
}

func TestEventsCanBeFilteredBySession(t *testing.T) {
	r := start(t)
	mine, _ := r.session(session.Session{})
	other, _ := r.session(session.Session{})
	w, nobody := r.watch("?session="+mine.ID), r.watch("?session=none")
	for i := range 3 {
		r.sessions.AddEvent(other.ID, session.EventStreamOpened, "other")
		r.sessions.AddEvent(mine.ID, session.EventStreamOpened, fmt.Sprint(i))
	}
	for i := range 3 {
		if e := w.event(); e.SessionID != mine.ID || e.Detail != fmt.Sprint(i) {
			t.Errorf("streamed was %+v", e)
		}
	}
	if len(nobody.blocks) != 0 {
		t.Error("events of a session that there is not were streamed")
	}
}

// Whoever opens all streams that there may be must not keep an operator from his own.
func TestOneEventStreamTooManyEndsTheOldest(t *testing.T) {
	r := start(t)
	var watching []*watcher
	for range 33 {
		w := r.watch("")
		if w.status != http.StatusOK {
			t.Fatalf("a watcher was answered %d", w.status)
		}
		watching = append(watching, w)
	}
	if last := watching[0].next(); !strings.HasPrefix(last, ": ended") {
		t.Errorf("the oldest stream goes on with %q", last)
	}
	s, _ := r.session(session.Session{})
	for _, w := range watching[1:] {
		if e := w.event(); e.SessionID != s.ID {
			t.Errorf("streamed was %+v", e)
		}
	}
	if n := r.metric("mcphub_admin_displaced_total", "events"); n != 1 {
		t.Errorf("%v streams were counted as ended", n)
	}
}

func TestHeadOfEventsOpensNoStream(t *testing.T) {
	r := start(t)
	for range 100 { // more than may watch
		p := r.do(http.MethodHead, "/api/v1/events")
		if p.status != http.StatusOK || p.header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("HEAD: %d %v", p.status, p.header)
		}
	}
	if w := r.watch(""); w.status != http.StatusOK {
		t.Errorf("a watcher: %d", w.status)
	}
}

// wire is a ResponseWriter without a buffer: a write blocks until the other side
// reads.
type wire struct {
	net.Conn
	header http.Header
}

func (w wire) Header() http.Header { return w.header }
func (w wire) WriteHeader(int)     {}
func (w wire) Flush()              {}

// watchedInBubble runs the stream of session events in virtual time.
func watchedInBubble(t *testing.T, query string, test func(t *testing.T, m *session.Manager, here net.Conn, ended <-chan struct{})) {
	synctest.Test(t, func(t *testing.T) {
		m := session.New(&persist.Memory{}, session.Config{})
		handler := admin.New(admin.Config{Sessions: m, Pool: upstream.NewPool(nil, upstream.Config{})})
		here, there := net.Pipe()
		ended := make(chan struct{})
		var serving sync.WaitGroup
		serving.Go(func() {
			defer close(ended)
			handler.ServeHTTP(wire{there, http.Header{}}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/events"+query, nil))
		})
		defer serving.Wait()
		defer func() { _ = here.Close() }()
		test(t, m, here, ended)
	})
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestEventStreamSendsKeepAlives(t *testing.T) {
	watchedInBubble(t, "", func(t *testing.T, _ *session.Manager, here net.Conn, ended <-chan struct{}) {
		blocks := make(chan string, 64)
		go read(bufio.NewReader(here), blocks)
		time.Sleep(time.Minute + time.Second)
		var got []string
		for len(blocks) > 0 {
			got = append(got, <-blocks)
		}
		if want := []string{": session events", ": keep-alive", ": keep-alive", ": keep-alive", ": keep-alive"}; !slices.Equal(got, want) ||
			isClosed(ended) {
			t.Errorf("received within a minute: %q", got)
		}
		_ = here.Close()
		time.Sleep(time.Minute)
		if !isClosed(ended) {
			t.Error("the stream outlives its reader")
		}
	})
}

func TestEventStreamReportsLostEvents(t *testing.T) {
	for name, filtered := range map[string]bool{"all sessions": false, "another session": true} {
		t.Run(name, func(t *testing.T) {
			query := ""
			if filtered {
				query = "?session=none"
			}
			watchedInBubble(t, query, func(t *testing.T, m *session.Manager, here net.Conn, _ <-chan struct{}) {
				synctest.Wait() // until the handler watches events and blocks in its first write
				const events = 1000
				s, _, err := m.Create(t.Context(), session.Session{})
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				for range events - 1 {
					m.AddEvent(s.ID, session.EventStreamOpened, "get_sse")
				}
				if took := time.Since(begun); took != 0 {
					t.Errorf("the reader held up the hub for %s", took)
				}
				blocks := make(chan string, 2*events)
				go read(bufio.NewReader(here), blocks)
				synctest.Wait()
				seen, lost := 0, 0
				for len(blocks) > 0 {
					block, n := <-blocks, 0
					switch {
					case strings.HasPrefix(block, "id: "):
						seen++
					case strings.HasPrefix(block, "event: lost\n"):
						if _, err := fmt.Sscanf(block, "event: lost\ndata: {\"count\":%d}", &n); err != nil || n == 0 {
							t.Errorf("the report of a gap is %q", block)
						}
						lost += n
					}
				}
				if filtered {
					seen = events - lost
				}
				if lost == 0 || seen+lost != events || seen < 256 {
					t.Errorf("received %d events, reported as lost %d, of %d", seen, lost, events)
				}
			})
		})
	}
}

func TestEventStreamEndsIfNobodyReadsIt(t *testing.T) {
	watchedInBubble(t, "", func(t *testing.T, _ *session.Manager, _ net.Conn, ended <-chan struct{}) {
		time.Sleep(11 * time.Second)
		if !isClosed(ended) {
			t.Error("it still holds its place")
		}
	})
}

// The answers must not give access to a session, nor to its sessions at the
// servers.
func TestNoAnswerShowsSecretsOfASession(t *testing.T) {
	r := start(t)
	w := r.watch("")
	s, token := r.session(session.Session{ClientName: "probe", Upstreams: map[string]session.Upstream{"up": {SessionID: "upstream-canary"}}})
	lease, err := r.sessions.Acquire(t.Context(), token, "")
	if err != nil {
		t.Fatal(err)
	}
	lease.Release()
	r.sessions.AddEvent(s.ID, session.EventUpstreamInitialised, "up")
	path := "/api/v1/sessions/" + s.ID
	shown := r.do(http.MethodGet, path+"/events").body + r.do(http.MethodGet, path).body + r.do(http.MethodGet, "/api/v1/sessions").body
	for _, body := range []string{`{"k":1}`, `{"":1}`, `x`} {
		shown += r.patch(s.ID, body).body
	}
	r.do(http.MethodDelete, path)
	shown += r.do(http.MethodGet, path+"/events").body + r.patch(s.ID, `{}`).body + r.do(http.MethodGet, path).body
	for range 3 {
		shown += w.next()
	}
	shown += r.logs.String()
	_, verifier, _ := strings.Cut(token, ".")
	for _, secret := range []string{verifier, s.TokenHash, "tokenHash", "upstream-canary"} {
		if i := strings.Index(shown, secret); secret == "" || i >= 0 {
			t.Errorf("%q is shown: %.300s", secret, shown[max(0, i-150):])
		}
	}
	for _, good := range []string{s.ID, "upstream_initialised", "ended", "metadata cannot be kept"} {
		if !strings.Contains(shown, good) {
			t.Errorf("%q is nowhere; was anything shown?", good)
		}
	}
}
