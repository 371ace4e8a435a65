package protocol

import (
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// Declares reports whether capabilities have a member at path, which names one member per level. The value of
// the member does not matter. Without a path it reports true.
func Declares(capabilities json.RawMessage, path ...string) bool {
	for _, name := range path {
		fields, err := jsonrpc.Fields(capabilities, name)
		if err != nil || fields[0] == nil {
			return false
		}
		capabilities = fields[0]
	}
	return true
}
