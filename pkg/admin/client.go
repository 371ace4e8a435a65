package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// callTimeout bounds a call, its whole answer included. Streams have no bound.
const callTimeout = 30 * time.Second

// Client calls the admin API of a running hub. It has no state besides that of
// its http.Client, and may be used by several goroutines at once.
//
// A failed call returns an *Error. The methods that take a session id want its
// public half, which Session.SessionID holds.
type Client struct {
	base string // without a slash at the end
	http *http.Client
}

// NewClient returns a client for the hub whose admin listener is at baseURL,
// such as http://127.0.0.1:7789. It does not connect. If client is nil, it uses
// http.DefaultClient. Events and Messages need a client without a Timeout.
func NewClient(baseURL string, client *http.Client) (*Client, error) {
	if _, err := url.Parse(baseURL); err != nil {
		return nil, fmt.Errorf("%s is not the URL of a hub's admin listener: %w", baseURL, err)
	}
	if client == nil {
		client = http.DefaultClient
	}
	return &Client{base: strings.TrimSuffix(baseURL, "/"), http: client}, nil
}

// call is one request of the API.
type call struct {
	op     string // what it does, for errors
	method string
	path   string
	body   any // sent as JSON; nil: none
}

func get(op, path string) call { return call{op: op, method: http.MethodGet, path: path} }

// sessionPath returns the path of a session in the API.
func sessionPath(id string) string { return "/api/v1/sessions/" + url.PathEscape(id) }

// do makes a call and decodes the answer into v, unless v is nil.
func (c *Client) do(ctx context.Context, k call, v any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := c.send(ctx, k)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(v); err != nil {
		return &Error{Op: k.op, Status: response.StatusCode, Err: notJSON(err)}
	}
	return nil
}

// send makes a call and returns the answer, whose status is 2xx. The caller
// closes its body.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	var body io.Reader = http.NoBody
	if k.body != nil {
		data, err := json.Marshal(k.body)
		if err != nil {
			return nil, &Error{Op: k.op, Err: err}
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, k.method, c.base+k.path, body)
	if err != nil {
		return nil, &Error{Op: k.op, Err: err}
	}
	if k.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled): // by the caller, so this says nothing about the hub
		return nil, &Error{Op: k.op, Err: context.Canceled}
	case err != nil:
		return nil, &Error{Op: k.op, Err: unreachable(c.base, err)}
	}
	if response.StatusCode/100 != 2 {
		defer func() { _ = response.Body.Close() }()
		return nil, &Error{Op: k.op, Status: response.StatusCode, Err: refusal(response)}
	}
	return response, nil
}
