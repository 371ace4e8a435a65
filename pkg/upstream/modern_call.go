package upstream

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/protocol"
)

// call implements dialect.
func (d *modernDialect) call(ctx context.Context, req Request) (jsonrpc.Message, error) {
	if req.Modern {
		return d.conn.roundTrip(ctx, d, req)
	}
	switch req.Method {
	case protocol.MethodPing:
		return d.ping(ctx, req)
	case protocol.MethodLoggingSetLevel:
		return d.setLevel(req)
	case protocol.MethodResourcesSubscribe, protocol.MethodResourcesUnsubscribe:
		return d.subscribe(ctx, req)
	case protocol.MethodSubscriptionsListen:
		// The hub subscribes itself. On a connection for all clients, the end of one stream may be that of others.
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound,
			"there is no method %s in the protocol version of the client", req.Method)
	}
	req.addMeta = true
	response, err := d.multiRoundCall(ctx, req)
	if err != nil {
		return response, err
	}
	return protocol.ToLegacy(req.Method, response), nil
}

// ping sends server/discover, which also shows whether the server still is a modern one.
func (d *modernDialect) ping(ctx context.Context, req Request) (jsonrpc.Message, error) {
	spec := d.conn.spec
	response, err := d.conn.roundTrip(ctx, d, Request{Method: protocol.MethodServerDiscover, addMeta: true, identity: req.identity})
	switch {
	case err != nil:
		return response, err
	case response.Error != nil && !spec.kind().IsProcess() && !mayRefuseDiscovery(response),
		response.Error == nil && parseDiscovery(response.Result) == nil:
		return jsonrpc.Message{}, serverError(spec.Name, errOtherEra)
	case response.Error == nil:
		response.Result = json.RawMessage(`{}`)
	}
	return response, nil
}

// setLevel sets the log level that requests ask for from now on.
func (d *modernDialect) setLevel(req Request) (jsonrpc.Message, error) {
	has, err := jsonrpc.Fields(d.conn.init.Capabilities, "logging")
	if err != nil || has[0] == nil {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeMethodNotFound, "the server has no log messages")
	}
	level, _ := jsonrpc.StringField(req.Params, "level")
	if !protocol.IsLogLevel(level) {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "unknown log level: %.32q", level)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.level = level
	return jsonrpc.Message{Result: json.RawMessage(`{}`)}, nil
}

// subscribe carries out resources/subscribe or resources/unsubscribe of a legacy caller.
func (d *modernDialect) subscribe(ctx context.Context, req Request) (jsonrpc.Message, error) {
	uri, ok := jsonrpc.StringField(req.Params, "uri")
	if !ok {
		return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "%s needs the uri of a resource", req.Method)
	}
	success := jsonrpc.Message{Result: json.RawMessage(`{}`)}
	if req.Method == protocol.MethodResourcesUnsubscribe {
		d.subscriber.set.remove(uri)
		return success, nil
	}
	revision, err := d.subscriber.set.add(uri)
	if err != nil {
		return jsonrpc.Message{}, err
	}
	ctx, cancel := d.withCallTimeout(ctx)
	defer cancel()
	accepted, err := d.subscriber.set.wait(ctx, revision, uri)
	accepted = accepted && err == nil
	d.subscriber.set.done(uri, accepted)
	switch {
	case accepted:
		return success, nil
	case d.conn.background.stopped() || ctx.Err() != nil:
		return jsonrpc.Message{}, d.callEnded(ctx)
	}
	if refused, ok := errors.AsType[*jsonrpc.Error](err); ok {
		return jsonrpc.Message{}, refused
	}
	if err != nil {
		return jsonrpc.Message{}, serverError(d.conn.spec.Name, err)
	}
	return jsonrpc.Message{}, jsonrpc.Errorf(jsonrpc.CodeInvalidParams, "the server does not report updates of this resource")
}
