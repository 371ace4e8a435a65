package hostile

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
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
	send := func(parts ...string) {
		out.Lock()
		defer out.Unlock()
		for _, part := range parts {
			_, _ = os.Stdout.WriteString(part)
		}
		_, _ = os.Stdout.WriteString("\n")
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(line, &m) == nil && m.ID != nil && m.Method != "" {
			go func() {
				result := append([]string{`{"jsonrpc":"2.0","id":`, string(m.ID), `,"result":`}, answer(m, send)...)
				send(append(result, "}")...)
			}()
		}
	}
}

// block is a part of long answers. All share it: the server must not be slower than the hub.
var block = strings.Repeat("x", 1<<20)

// answer returns the parts of the result of a request. Before, it sends what the tool sends.
func answer(m message, send func(...string)) []string {
	args := m.Params.Arguments
	switch m.Method {
	case "initialize":
		return []string{`{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"hostile","version":"1"}}`}
	case "tools/list":
		var tools []string
		for _, name := range []string{"echo", "long", "flood", "ask", "die"} {
			tools = append(tools, `{"name":"`+name+`","inputSchema":{"type":"object"}}`)
		}
		return []string{`{"tools":[`, strings.Join(tools, ","), `]}`}
	case "tools/call":
	default:
		return []string{`{}`}
	}
	var text []string
	switch m.Params.Name {
	case "echo":
		text = []string{args.Text}
	case "long":
		text = slices.Repeat([]string{block}, args.Size/len(block))
	case "flood":
		progress := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1,"message":%q}}`,
			m.Params.Meta.ProgressToken, block[:args.Size])
		for range args.N {
			send(progress)
		}
	case "ask":
		send(fmt.Sprintf(`{"jsonrpc":"2.0","id":"ask-%s","method":"elicitation/create","params":{"message":%q,`+
			`"requestedSchema":{"type":"object","properties":{}}}}`, m.ID, strings.Repeat("x", args.Size)))
		time.Sleep(time.Minute)
	case "die":
		os.Exit(3)
	}
	return append(append([]string{`{"content":[{"type":"text","text":"`}, text...), `"}]}`)
}
