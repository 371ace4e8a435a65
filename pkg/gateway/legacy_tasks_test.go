package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/hubtest"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// tasksCapability returns the capability "tasks" in the result of initialize.
func (r *rig) tasksCapability() string {
	r.t.Helper()
	var init struct {
		Capabilities struct{ Tasks json.RawMessage }
	}
	if err := json.Unmarshal(r.send(http.MethodPost, initializeBody).response(r.t).Result, &init); err != nil {
		r.t.Fatal(err)
	}
	return string(init.Capabilities.Tasks)
}

// createTask calls a tool as a task and returns the id of the task.
func (c *peer) createTask(tool string) string {
	c.t.Helper()
	m := c.call("1", "tools/call", `{"name":"`+tool+`","task":{"ttl":1.50},"_meta":{"progressToken":"mine"}}`).response(c.t)
	fields, err := jsonrpc.Fields(m.Result, "task", "of")
	id, ok := jsonrpc.StringField(fields[0], "taskId")
	if err != nil || !ok || string(fields[1]) != `{"ttl":1.50}` {
		c.t.Fatalf("%s did not become a task: %s", tool, m.Encode())
	}
	return id
}

// sendModern sends a request of the modern protocol. members precede _meta in its params.
func (r *rig) sendModern(method, members string, headers ...string) reply {
	r.t.Helper()
	if members != "" {
		members += ","
	}
	return r.send(http.MethodPost, request("1", method, `{`+members+`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"new","version":"1"}}}`),
		append([]string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: " + method}, headers...)...)
}

// taskRequest sends a request about a task.
func (c *peer) taskRequest(method, id string) jsonrpc.Message {
	c.t.Helper()
	return c.call("7", method, `{"taskId":"`+id+`"}`).response(c.t)
}

func workingTask(id string) string { return `{"taskId":"` + id + `","status":"working","ttl":1e3}` }

func TestTasksAreOfferedIfServersKeepThemForEachClient(t *testing.T) {
	shared := newTaskServer(t, "all", allTasks).spec()
	shared.Isolation = upstream.Shared
	for name, x := range map[string]struct {
		specs []upstream.Spec
		want  string
	}{
		"all": {[]upstream.Spec{newTaskServer(t, "a", allTasks).spec(), stdio(t, "one")}, allTasks},
		"each its part": {[]upstream.Spec{newTaskServer(t, "a", `{"requests":{"tools":{"call":{}}}}`).spec(),
			newTaskServer(t, "b", `{"cancel":{},"requests":{}}`).spec(),
			newTaskServer(t, "c", `{"list":{},"requests":{"tools":{}}}`).spec()}, allTasks},
		"one part": {[]upstream.Spec{newTaskServer(t, "a", `{"requests":{"tools":{"call":{}}}}`).spec(), stdio(t, "one")},
			`{"requests":{"tools":{"call":{}}}}`},
		"shared":           {[]upstream.Spec{shared, stdio(t, "one")}, ""},
		"none declares it": {[]upstream.Spec{newTaskServer(t, "a", "").spec(), stdio(t, "one")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{specs: x.specs})
			if got := r.tasksCapability(); got != x.want {
				t.Errorf("offered %s, want %s", got, x.want)
			}
			p := r.sendModern("server/discover", "")
			if !strings.Contains(p.body, `"capabilities"`) || strings.Contains(p.body, `"tasks"`) {
				t.Errorf("a modern client received %s", p.body)
			}
			if x.want != "" {
				return
			}
			if e := r.connect().call("1", "tasks/list", `{}`).rpcError(t); e.Code != jsonrpc.CodeMethodNotFound {
				t.Errorf("tasks/list without tasks: %v", e)
			}
		})
	}
}

func TestToolsDeclareTaskSupportOnlyIfTheirServerKeepsTasks(t *testing.T) {
	const stripped = `{"name":"%s__slow","inputSchema":{"n":1.50}}`
	const whole = `{"name":"%s__slow","execution":{"taskSupport":"optional"},"inputSchema":{"n":1.50}}`
	shared := newTaskServer(t, "all", allTasks).spec()
	shared.Isolation = upstream.Shared
	r := start(t, setup{specs: []upstream.Spec{newTaskServer(t, "a", allTasks).spec(), shared, newTaskServer(t, "none", "").spec()}})
	legacy := string(r.connect().call("1", "tools/list", `{}`).response(t).Result)
	for server, want := range map[string]string{"a": whole, "all": stripped, "none": stripped} {
		if tool := fmt.Sprintf(want, server); !strings.Contains(legacy, tool) {
			t.Errorf("the list has no %s:\n%s", tool, legacy)
		}
	}
	if p := r.sendModern("tools/list", ""); strings.Contains(p.body, "taskSupport") ||
		strings.Count(p.body, `"inputSchema":{"n":1.50}`) != 3 {
		t.Errorf("a modern client received %s", p.body)
	}
}

func TestCallBecomesATaskOnlyIfItsServerKeepsTasks(t *testing.T) {
	shared := newTaskServer(t, "all", allTasks).spec()
	shared.Isolation = upstream.Shared
	r := start(t, setup{specs: []upstream.Spec{newTaskServer(t, "a", allTasks).spec(), shared, newTaskServer(t, "none", "").spec(),
		stdio(t, "one")}, untraced: true})
	c := r.connect()
	c.createTask("a__slow")
	for tool, want := range map[string]string{
		"all__slow":  `{"content":[],"params":{"name":"slow", "x":1.50}}`,
		"none__slow": `{"content":[],"params":{"name":"slow", "x":1.50}}`,
		"one__echo":  `{"content":[],"server":"one","params":{"name":"echo", "x":1.50}}`,
	} {
		for _, member := range []string{`"task"`, `"t\u0061sk"`} { // the same member, escaped
			m := c.call("1", "tools/call", `{"name":"`+tool+`",`+member+`:{"ttl":5}, "x":1.50}`).response(t)
			if string(m.Result) != want {
				t.Errorf("%s with %s: %s %s", tool, member, m.Result, m.Error)
			}
		}
	}
	for _, tool := range []string{"a__slow", "all__slow"} {
		p := r.sendModern("tools/call", `"name":"`+tool+`","task":{}`, "Mcp-Name: "+tool)
		if !strings.Contains(p.body, `"content":[]`) || strings.Contains(p.body, "taskId") {
			t.Errorf("a modern client called %s and got %s", tool, p.body)
		}
	}
}

func TestTaskIsFoundAtTheServerThatCreatedIt(t *testing.T) {
	a, b := newTaskServer(t, "a", allTasks), newTaskServer(t, "b", allTasks)
	dir := filepath.Join(t.TempDir(), "sessions")
	open := func() *rig {
		store, err := persist.OpenDir(dir, persist.DirConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return start(t, setup{store: store, specs: []upstream.Spec{a.spec(), b.spec(), stdio(t, "one")}, untraced: true})
	}
	r := open()
	c, other := r.connect(), r.connect()
	tasks := map[*taskServer]string{b: c.createTask("b__slow"), a: c.createTask("a__slow")}
	theirs := other.createTask("b__slow")
	check := func(when string) {
		t.Helper()
		for k, id := range tasks {
			if m := c.taskRequest("tasks/get", id); string(m.Result) != workingTask(id) {
				t.Errorf("%s, the task of %s: %s %s", when, k.name, m.Result, m.Error)
			}
			if e := jsonrpc.ParseError(other.taskRequest("tasks/get", id).Error); e == nil || e.Code != jsonrpc.CodeInvalidParams {
				t.Errorf("%s, the request of another client for the task of %s got %v", when, k.name, e)
			}
		}
		if m := other.taskRequest("tasks/get", theirs); string(m.Result) != workingTask(theirs) {
			t.Errorf("%s, the task of another client: %s %s", when, m.Result, m.Error)
		}
	}
	check("before the restart")
	r.stop()
	r = open()
	c, other = &peer{rig: r, token: c.token, id: c.id}, &peer{rig: r, token: other.token, id: other.id}
	check("after the restart")

	for k, id := range tasks {
		if m := c.taskRequest("tasks/cancel", id); string(m.Result) != `{"taskId":"`+id+`","status":"cancelled"}` {
			t.Errorf("cancelling the task of %s: %s %s", k.name, m.Result, m.Error)
		}
		m := c.taskRequest("tasks/result", id)
		if want := `{"content":[ ],"n":1.50,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"` + id +
			`"}}}`; string(m.Result) != want {
			t.Errorf("the result of the task of %s: %s %s", k.name, m.Result, m.Error)
		}
		if n := len(k.received("tasks/cancel")); n != 1 {
			t.Errorf("%s received %d cancellations", k.name, n)
		}
	}
	for _, params := range []string{`{}`, `{"taskId":7}`, `{"taskId":"nobody's"}`, `[]`} {
		if e := c.call("1", "tasks/get", params).rpcError(t); e.Code != jsonrpc.CodeInvalidParams {
			t.Errorf("tasks/get %s: %v", params, e)
		}
	}
}

// listTasks reads all pages of the list of tasks, from a cursor on.
func (c *peer) listTasks(cursor string) (ids []string) {
	c.t.Helper()
	params := `{}`
	for range 20 {
		if cursor != "" {
			params = `{"cursor":"` + cursor + `"}`
		}
		var page struct {
			Tasks      []struct{ TaskID string }
			NextCursor string
		}
		m := c.call("1", "tasks/list", params).response(c.t)
		if err := json.Unmarshal(m.Result, &page); err != nil {
			c.t.Fatalf("tasks/list: %s", m.Encode())
		}
		for _, task := range page.Tasks {
			ids = append(ids, task.TaskID)
		}
		if cursor = page.NextCursor; cursor == "" {
			return ids
		}
	}
	c.t.Fatal("the list does not end")
	return nil
}

func TestTasksOfAllServersAreOneList(t *testing.T) {
	a, b := newTaskServer(t, "a", allTasks), newTaskServer(t, "b", allTasks)
	r := start(t, setup{specs: []upstream.Spec{a.spec(), newTaskServer(t, "mute", `{"requests":{"tools":{"call":{}}}}`).spec(), b.spec(),
		stdio(t, "one")}})
	c, other := r.connect(), r.connect()
	if got := c.listTasks(""); len(got) != 0 {
		t.Errorf("before the first task: %q", got)
	}
	other.createTask("a__slow")
	c.createTask("mute__slow") // its server does not support tasks/list
	want := []string{c.createTask("a__slow"), c.createTask("a__slow"), c.createTask("b__slow"), c.createTask("b__slow")}
	if got := c.listTasks(""); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	foreign := strings.Trim(string(taskCursor("a", "7")), `"`)
	for _, cursor := range []string{`"?"`, `"AAAA"`, `7`, `{}`, `"` + foreign + `"`, string(taskCursor("no", "0")),
		string(taskCursor("one", "0")), string(taskCursor("", "0"))} {
		if e := c.call("1", "tasks/list", `{"cursor":`+cursor+`}`).rpcError(t); e.Code != jsonrpc.CodeInvalidParams {
			t.Errorf("cursor %s: %v", cursor, e)
		}
	}
	if !slices.Equal(c.listTasks(""), want) {
		t.Error("the list has changed")
	}
	a.http.CloseClientConnections()
	a.http.Close()
	hubtest.Eventually(t, "the hub has noticed that the server is down", func() bool {
		c.call("1", "tools/call", `{"name":"a__plain"}`)
		return r.pool.Server("a").Status().State == upstream.Down
	})
	if got := c.listTasks(""); !slices.Equal(got, want[2:]) {
		t.Errorf("while a server is down, listed %q, want those of the other, %q", got, want[2:])
	}
	if e := jsonrpc.ParseError(c.taskRequest("tasks/get", want[0]).Error); e == nil || !strings.Contains(e.Message, `server "a" is down`) {
		t.Errorf("a task of a server that is down: %v", e)
	}
}

func TestTaskIsNotUnknownWhileItsServerIsStarting(t *testing.T) {
	a, b := newTaskServer(t, "a", allTasks), newTaskServer(t, "b", allTasks)
	store := &keptStore{Store: &persist.Memory{}}
	r := start(t, setup{store: store, specs: []upstream.Spec{a.spec(), b.spec()}})
	c := r.connect()
	id := c.createTask("a__slow")
	c.createTask("b__slow")
	r.stop()

	a.slow = make(chan struct{})
	r = build(t, setup{store: store, specs: []upstream.Spec{a.spec(), b.spec()}})
	if err := r.sessions.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.run()
	r.client = &http.Client{Transport: &http.Transport{}}
	r.server = httptest.NewServer(Guard{}.Handler(r.gateway))
	r.url = r.server.URL
	t.Cleanup(r.stop)
	c = &peer{rig: r, token: c.token, id: c.id}
	got := make(chan jsonrpc.Message, 1)
	go func() { got <- c.taskRequest("tasks/get", id) }()
	hubtest.Eventually(t, "the request is in flight", func() bool { return r.metric("mcphub_requests_in_flight", "hop", "downstream") == 1 })
	close(a.slow)
	if m := <-got; string(m.Result) != workingTask(id) {
		t.Errorf("while the servers are being started: %s %s", m.Result, m.Error)
	}
	r.stop()

	a.http.CloseClientConnections()
	a.http.Close()
	r = start(t, setup{store: store, specs: []upstream.Spec{a.spec(), b.spec()}})
	c = &peer{rig: r, token: c.token, id: c.id}
	if e := jsonrpc.ParseError(c.taskRequest("tasks/get", id).Error); e == nil || !strings.Contains(e.Message, `server "a" is down`) {
		t.Errorf("a task of a server that could not be started: %v", e)
	}
}

// keptStore is a store that stays open after Close, for another hub.
type keptStore struct{ persist.Store }

func (*keptStore) Close() error { return nil }

func TestWaitForATaskCanBeCancelled(t *testing.T) {
	a, b := newTaskServer(t, "a", allTasks), newTaskServer(t, "b", allTasks)
	r := start(t, setup{specs: []upstream.Spec{a.spec(), b.spec()}})
	c := r.connect()
	id := c.createTask("b__slow")
	s := c.open(http.MethodPost, request("5", "tasks/result", `{"taskId":"`+id+`"}`))
	c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`)
	if e, ok := s.next(); !ok || e.comment != "cancelled" {
		t.Errorf("the cancelled request received %s", e.Encode())
	}
	hubtest.Eventually(t, "the server gets the cancellation", func() bool { return len(b.received("notifications/cancelled")) == 1 })
	if m := c.taskRequest("tasks/get", id); string(m.Result) != workingTask(id) {
		t.Errorf("the task after the cancelled request: %s %s", m.Result, m.Error)
	}
}

func TestNotificationsOfATaskReachItsClient(t *testing.T) {
	a, b := newTaskServer(t, "a", allTasks), newTaskServer(t, "b", allTasks)
	r := start(t, setup{specs: []upstream.Spec{a.spec(), b.spec()}, untraced: true})
	c, other := r.connect(), r.connect()
	getStream, otherStream := c.listen(), other.listen()
	id := c.createTask("b__slow")
	other.createTask("b__slow")
	resultStream := c.open(http.MethodPost, request("5", "tasks/result", `{"taskId":"`+id+`"}`))
	// The notifications may arrive on the stream of either request or on the GET stream.
	seen := map[string]int{}
	for _, m := range c.call("7", "tasks/cancel", `{"taskId":"`+id+`"}`).events {
		if m.Result == nil {
			seen[m.Method+string(m.Params)]++
		}
	}
	for m := resultStream.message(); m.Result == nil; m = resultStream.message() {
		seen[m.Method+string(m.Params)]++
	}
	status := `notifications/tasks/status{"taskId":"` + id + `","status":"cancelled"}`
	const progress = `notifications/progress{"progressToken":"mine","progress":1.50}`
	for seen[status]+seen[progress] < 2 {
		m := getStream.message()
		seen[m.Method+string(m.Params)]++
	}
	if len(seen) != 2 || seen[status] != 1 || seen[progress] != 1 {
		t.Errorf("received %v", seen)
	}
	if len(otherStream.events) != 0 {
		t.Errorf("another client received %+v", <-otherStream.events)
	}
}

func TestTransparentHubForwardsTasksUnchanged(t *testing.T) {
	a := newTaskServer(t, "a", allTasks)
	r := start(t, setup{specs: []upstream.Spec{a.spec()}, naming: catalog.Bare, untraced: true,
		gateway: func(c *Config) { c.Transparent = true }})
	if got := r.tasksCapability(); got != allTasks {
		t.Errorf("offered %s", got)
	}
	c, other := r.connect(), r.connect()
	if m := c.call("1", "tools/list", `{}`).response(t); string(m.Result) != `{"tools":`+taskTools+`}` {
		t.Errorf("tools/list: %s", m.Result)
	}
	id := c.createTask("slow")
	c.createTask("slow")
	if m := c.taskRequest("tasks/get", id); string(m.Result) != workingTask(id) {
		t.Errorf("tasks/get: %s %s", m.Result, m.Error)
	}
	if m := other.taskRequest("tasks/get", id); `"error":`+string(m.Error) != noTask {
		t.Errorf("another client: %s", m.Encode())
	}
	if m := c.call("1", "tasks/list", `{"cursor":"0"}`).response(t); string(m.Result) != `{"tasks":[{"taskId":"`+id+`","ttl":1e3}],`+
		`"nextCursor":"1"}` {
		t.Errorf("tasks/list: %s %s", m.Result, m.Error)
	}
	shared := a.spec()
	shared.Isolation = upstream.Shared
	r = start(t, setup{specs: []upstream.Spec{shared}, naming: catalog.Bare, gateway: func(c *Config) { c.Transparent = true }})
	if e := r.connect().call("1", "tasks/list", `{}`).rpcError(t); r.tasksCapability() != "" || e.Code != jsonrpc.CodeMethodNotFound ||
		len(a.received("tasks/list")) != 1 {
		t.Errorf("the tasks of all clients can be listed: %v", e)
	}
}
