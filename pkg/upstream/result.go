package upstream

import (
	"encoding/json"
	"fmt"

	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// withObject returns the response to a request of a client with a result that is an object, as every result of MCP is:
// SDKs of clients drop another one, and their callers wait for it. A null result is an empty one. Methods outside of MCP
// may have other results.
func (c *Conn) withObject(method string, response jsonrpc.Message) (jsonrpc.Message, error) {
	if len(response.Result) == 0 || response.Result[0] == '{' || instrument.MethodLabel(method) == instrument.Other {
		return response, nil
	}
	if string(response.Result) != "null" {
		return jsonrpc.Message{}, serverError(c.spec.Name, fmt.Errorf("%w: its result is not an object", transport.ErrProtocol))
	}
	c.tel.repaired(jsonrpc.RepairedEnvelope)
	response.Result = json.RawMessage(`{}`)
	return response, nil
}
