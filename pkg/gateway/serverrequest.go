package gateway

import (
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// neededCapability returns the capability that a client must declare to get a request of a server;
// an empty string if it needs none.
func neededCapability(method string) string {
	switch method {
	case protocol.MethodSamplingCreateMessage:
		return "sampling"
	case protocol.MethodElicitationCreate:
		return "elicitation"
	case protocol.MethodRootsList:
		return "roots"
	}
	return ""
}

// checkSupported returns an error if a client with these capabilities must not get the request m of a
// server. A server with a shared connection cannot know what a single client supports.
func checkSupported(capabilities json.RawMessage, m jsonrpc.Message) error {
	needed := neededCapability(m.Method)
	if needed == "" {
		return nil
	}
	has, err := jsonrpc.Fields(capabilities, needed)
	if err != nil || has[0] == nil {
		return jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "the client does not support %s: it has not declared the capability %q",
			instrument.MethodLabel(m.Method), needed)
	}
	if m.Method != protocol.MethodElicitationCreate {
		return nil
	}
	mode, _ := jsonrpc.StringField(m.Params, "mode")
	byURL := protocol.Declares(has[0], "url")
	switch {
	case mode == "url" && !byURL:
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the client does not support elicitation by URL")
	case mode != "url" && byURL && !protocol.Declares(has[0], "form"): // a client that names neither supports forms
		return jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the client does not support elicitation by forms")
	}
	return nil
}
