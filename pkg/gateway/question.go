package gateway

import (
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// answerable says why a client with these capabilities must not be asked what a
// server wants to know, and returns nil if it may. Over a shared connection
// servers are told more than a single client can do.
func answerable(capabilities json.RawMessage, m jsonrpc.Message) error {
	needs, ok := questions[m.Method]
	if !ok {
		return nil
	}
	has, err := jsonrpc.Fields(capabilities, needs)
	if err != nil || has[0] == nil {
		return jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "the client does not support %s: it has not declared the capability %q",
			instrument.MethodLabel(m.Method), needs)
	}
	if m.Method != protocol.MethodElicitationCreate {
		return nil
	}
	mode, _ := jsonrpc.StringField(m.Params, "mode")
	byURL := protocol.Declares(has[0], "url")
	switch {
	case mode == "url" && !byURL:
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the client does not support elicitation by URL")
	case mode != "url" && byURL && !protocol.Declares(has[0], "form"): // with neither it means forms
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the client does not support elicitation by forms")
	}
	return nil
}

// questions are the requests of servers that need a capability of the client.
var questions = map[string]string{
	protocol.MethodSamplingCreateMessage: "sampling",
	protocol.MethodElicitationCreate:     "elicitation",
	protocol.MethodRootsList:             "roots",
}
