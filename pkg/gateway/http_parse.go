package gateway

import (
	"encoding/json"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
)

// parse reads a message of a client. What is not quite JSON-RPC but has one meaning only is repaired and counted. Like
// jsonrpc.Parse it returns the id with an error, if it can: a client that gets no id in the error may wait for ever.
func (c *core) parse(text []byte) (jsonrpc.Message, error) {
	m, err := jsonrpc.Parse(text)
	if err == nil {
		return m, nil
	}
	m, repairs, err := jsonrpc.ParsePatiently(text)
	if err != nil {
		c.tel.Repairs.CountUnreadable(true)
		return m, err
	}
	c.tel.Repairs.CountRepaired(repairs)
	return m, nil
}

// parseBatch returns the elements of a batch of a client, see jsonrpc.ParseBatch.
func (c *core) parseBatch(text []byte) ([]json.RawMessage, error) {
	all, err := jsonrpc.ParseBatch(text)
	if err == nil {
		return all, nil
	}
	fixed, repairs := jsonrpc.RepairStrings(text)
	if all, err = jsonrpc.ParseBatch(fixed); err == nil {
		c.tel.Repairs.CountRepaired(repairs)
	} else {
		c.tel.Repairs.CountUnreadable(true)
	}
	return all, err
}
