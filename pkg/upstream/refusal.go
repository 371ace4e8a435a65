package upstream

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/mcphub-go/mcphub/pkg/jsonrpc"
	"github.com/mcphub-go/mcphub/pkg/upstream/transport"
)

// refusal is how a server refused a request as such, not what a tool reported. The zero refusal is none.
type refusal struct {
	is       bool
	harmless bool   // the server has certainly not begun with the request: it may be sent again
	said     string // the reason that the server gave, which may quote the request

	unavailable bool // an HTTP status 5xx: the server may be in trouble, and not only refuse this request
}

// refusalOf tells whether the server refused a request, from what roundTrip got for it.
func refusalOf(response jsonrpc.Message, err error, answer transport.Answer) refusal {
	if status, ok := errors.AsType[transport.StatusError](err); ok {
		return refusal{is: !isLater(status.Code), harmless: status.Code/100 == 4, said: status.Said, unavailable: status.Code/100 == 5}
	}
	if err != nil {
		return refusal{is: isNoAnswer(err, answer)}
	}
	if response.Error == nil || answer.Status == 0 || isLater(answer.Status) {
		return refusal{}
	}
	e := jsonrpc.ParseError(response.Error)
	// An internal error, which is also what ParseError makes of the code 0, may be that of work that was begun.
	began := answer.Preceded || answer.Status/100 == 5 || (answer.Status/100 == 2 && e.Code == jsonrpc.CodeInternal)
	return refusal{is: true, harmless: !began, said: e.Message, unavailable: answer.Status/100 == 5}
}

// isNoAnswer reports whether a server that has got the request sent something else than an answer to it: a text that cannot
// be read, a redirect, or a stream that ended in order without the answer.
func isNoAnswer(err error, answer transport.Answer) bool {
	switch {
	case transport.IsTooMuch(err): // the hub did not read what may be the answer
		return false
	case errors.Is(err, transport.ErrProtocol):
		return true
	}
	return errors.Is(err, transport.ErrLost) && errors.Is(err, io.EOF) && answer.Status/100 == 2
}

// isLater reports whether an HTTP status asks for another attempt later, or elsewhere, and says nothing about a session.
func isLater(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status/100 == 3
}

const (
	maxQuotable = 64 << 10 // bytes of params that are searched for what a refusal may quote
	minQuote    = 4        // bytes of a value that counts as a quotation
	maxSaid     = 200      // bytes of a reason in a log record
)

// loggable returns the reason of a refusal for the log: without configured secrets, the id of the session, and what it
// quotes of the params of the request.
func (r refusal) loggable(s Spec, session string, params json.RawMessage) string {
	if r.said == "" || len(params) > maxQuotable {
		return ""
	}
	var pairs []string
	for _, value := range append(leaves(params), session) {
		if len(value) >= minQuote {
			pairs = append(pairs, value, "***")
		}
	}
	text := strings.NewReplacer(pairs...).Replace(s.masked(r.said))
	return strings.ToValidUTF8(text[:min(len(text), maxSaid)], "")
}

// leaves returns the member names, strings and numbers in a JSON value.
func leaves(value json.RawMessage) []string {
	var found []string
	d := json.NewDecoder(strings.NewReader(string(value)))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return found
			}
			return append(found, string(value))
		}
		switch v := token.(type) {
		case string:
			found = append(found, v)
		case json.Number:
			found = append(found, v.String())
		}
	}
}
