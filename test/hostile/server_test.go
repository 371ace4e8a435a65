package hostile

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// arguments are those of all tools.
type arguments struct {
	Text string
	Size int
	N    int
}

// message is what the server reads.
type message struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Name      string
		Arguments arguments
		Meta      struct{ ProgressToken json.RawMessage } `json:"_meta"`
	}
}

// serve is a legacy server over stdio. With mode deaf it ends neither with its standard input nor with SIGTERM.
func serve(mode string) {
	if mode == "deaf" {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		defer time.Sleep(time.Hour)
	}
	var out sync.Mutex
	send := func(text string) {
		out.Lock()
		defer out.Unlock()
		_, _ = os.Stdout.WriteString(text + "\n")
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(line, &m) == nil && m.ID != nil && m.Method != "" {
			go func() { send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, answer(m, send))) }()
		}
	}
}

// answer returns the result of a request. Before it, it sends what the tool sends.
func answer(m message, send func(string)) string {
	args := m.Params.Arguments
	switch m.Method {
	case "initialize":
		return `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"hostile","version":"1"}}`
	case "tools/list":
		var tools []string
		for _, name := range []string{"echo", "long", "flood", "ask", "die"} {
			tools = append(tools, `{"name":"`+name+`","inputSchema":{"type":"object"}}`)
		}
		return `{"tools":[` + strings.Join(tools, ",") + `]}`
	case "tools/call":
	default:
		return `{}`
	}
	text := ""
	switch m.Params.Name {
	case "echo":
		text = args.Text
	case "long":
		text = strings.Repeat("x", args.Size)
	case "flood":
		for range args.N {
			send(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1,"message":%q}}`,
				m.Params.Meta.ProgressToken, strings.Repeat("x", args.Size)))
		}
	case "ask":
		send(fmt.Sprintf(`{"jsonrpc":"2.0","id":"ask-%s","method":"elicitation/create","params":{"message":%q,`+
			`"requestedSchema":{"type":"object","properties":{}}}}`, m.ID, strings.Repeat("x", args.Size)))
		time.Sleep(time.Minute)
	case "die":
		os.Exit(3)
	}
	content, _ := json.Marshal(text)
	return `{"content":[{"type":"text","text":` + string(content) + `}]}`
}
