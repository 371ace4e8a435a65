package jsonrpc

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// The members of an envelope.
const (
	memberVersion = iota
	memberID
	memberMethod
	memberParams
	memberResult
	memberError
	members
)

func memberNames() [members]string {
	return [...]string{"jsonrpc", "id", "method", "params", "result", "error"}
}

// envelope collects the members of one message that is read with patience.
type envelope struct {
	// lenient: members may be missing, given twice with one value, or written in upper case. Only messages of servers
	// are read so, which the hub itself has asked for.
	lenient bool

	values  [members]json.RawMessage
	exact   [members]bool // the name was written as the specification does
	foreign int           // members that no envelope has
	repairs Repairs
}

// readEnvelope reads a message that Parse does not accept. A response may lack its id. Like Parse it returns the id with
// an error, if it can.
func readEnvelope(data []byte, lenient bool) (Message, Repairs, error) {
	e := envelope{lenient: lenient}
	if err := scan(data, func(name []byte, value json.RawMessage, _ span) error { return e.add(name, value) }); err != nil {
		return Message{}, 0, asParseError(err)
	}
	m, err := e.message()
	return m, e.repairs, err
}

func (e *envelope) add(name []byte, value json.RawMessage) error {
	i, exact := memberOf(name)
	switch {
	case i < 0, !exact && (!e.lenient || e.exact[i]):
		e.foreign++
	case e.values[i] == nil, exact && !e.exact[i]:
		e.values[i], e.exact[i] = value, exact
		if !exact {
			e.repairs |= RepairedEnvelope
		}
	case e.lenient && bytes.Equal(e.values[i], value):
		e.repairs |= RepairedEnvelope
	default:
		return invalid("the member %q occurs twice", memberNames()[i])
	}
	return nil
}

// memberOf returns the member with that name, or -1.
func memberOf(name []byte) (member int, exact bool) {
	for i, known := range memberNames() {
		if string(name) == known {
			return i, true
		}
		if strings.EqualFold(string(name), known) {
			return i, false
		}
	}
	return -1, false
}

// message makes a message of the members.
func (e *envelope) message() (m Message, err error) {
	e.dropNulls()
	e.dropEcho()
	if m.ID, err = parseID(e.values[memberID]); err != nil {
		if !e.lenient || e.values[memberMethod] != nil {
			return m, err
		}
		m.ID = "" // the caller decides what becomes of a response without id
		e.repairs |= RepairedEnvelope
	}
	if err := e.checkVersion(); err != nil {
		return m, err
	}
	if method := e.values[memberMethod]; method != nil {
		if m.Method, err = Text(method); err != nil || m.Method == "" {
			return m, invalid(`the member "method" must be a string that is not empty`)
		}
	}
	m.Params, m.Result = e.values[memberParams], e.values[memberResult]
	if raw := e.values[memberError]; raw != nil {
		var repaired bool
		if m.Error, repaired = wellFormedError(raw); repaired {
			e.repairs |= RepairedError
		}
	}
	check := m
	if check.Kind() == Response && check.ID == "" {
		check.ID = Null // the caller decides what becomes of a response without id
	}
	return m, check.check()
}

// dropNulls drops members that are null where that means the same as if they were missing. Some libraries write all
// members, and those of JSON-RPC 1.0 both result and error.
func (e *envelope) dropNulls() {
	e.dropNull(memberParams)
	if e.dropNull(memberMethod); e.values[memberMethod] != nil {
		e.dropNull(memberResult)
		e.dropNull(memberError)
		if e.lenient {
			e.dropNull(memberID)
		}
		return
	}
	e.dropNull(memberError)
	if e.values[memberError] != nil {
		e.dropNull(memberResult)
	}
}

// dropEcho drops the members of the request from a response that has them, too: some servers make the response of it. A
// request has no result.
func (e *envelope) dropEcho() {
	if !e.lenient || e.foreign > 0 || e.values[memberMethod] == nil || e.values[memberID] == nil ||
		e.values[memberResult] == nil && e.values[memberError] == nil {
		return
	}
	e.values[memberMethod], e.values[memberParams] = nil, nil
	e.repairs |= RepairedEnvelope
}

func (e *envelope) dropNull(member int) {
	if string(e.values[member]) == "null" {
		e.values[member] = nil
		e.repairs |= RepairedEnvelope
	}
}

// checkVersion accepts other ways to write 2.0. Without a version, an object is a message only if it has no members
// that others have: servers also print log records as JSON.
func (e *envelope) checkVersion() error {
	switch version := string(e.values[memberVersion]); {
	case version == `"2.0"`:
		return nil
	case e.lenient && (version == "2.0" || version == "2" || version == `"2"`),
		e.lenient && (version == "" || version == "null") && e.foreign == 0 && e.isPlain():
		e.repairs |= RepairedEnvelope
		return nil
	}
	return invalid(`the member "jsonrpc" must be "2.0"`)
}

// isPlain reports whether the members are those of a message even if there is no version: what is no record of a log may
// be the body of an HTTP error, such as {"error":"unauthorized"}.
func (e *envelope) isPlain() bool { return e.values[memberID] != nil || e.values[memberMethod] != nil }

// maxErrorText bounds what is quoted of an error that is no error object, in bytes.
const maxErrorText = 1024

// wellFormedError returns raw as an error object with an integer code and a message, and whether it was none.
func wellFormedError(raw json.RawMessage) (fixed json.RawMessage, repaired bool) {
	if isErrorObject(raw) {
		return raw, false
	}
	var e struct{ Code, Message, Data json.RawMessage }
	if json.Unmarshal(raw, &e) != nil { // not an object
		return encodeError(&Error{Code: CodeInternal, Message: errorText(raw)}), true
	}
	code, isNumber := errorCode(e.Code)
	text, err := Text(e.Message)
	if err != nil {
		text = "the server gave no message with its error"
		if e.Message != nil && string(e.Message) != "null" {
			text = errorText(e.Message)
		}
	}
	if e.Data == nil && !isNumber {
		e.Data = raw
	}
	return encodeError(&Error{Code: code, Message: text, Data: e.Data}), true
}

// isErrorObject reports whether raw is an error as JSON-RPC 2.0 section 5.1 has it.
func isErrorObject(raw json.RawMessage) bool {
	fields, err := Fields(raw, "code", "message")
	if err != nil {
		return false
	}
	_, isInteger := integer(string(fields[0])) // 1.0 is one, too, and is passed on as it is
	return isInteger && len(fields[1]) > 0 && fields[1][0] == '"'
}

func encodeError(e *Error) json.RawMessage { return NewError("", e).Error }

// errorText returns what an error says that is no error object.
func errorText(raw json.RawMessage) string {
	text, err := Text(raw)
	if err != nil {
		text = string(raw)
	}
	return strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "")
}

// errorCode returns the code of an error. It reports false, with a code that says nothing, if the code is no integer.
func errorCode(raw json.RawMessage) (code int, ok bool) {
	text, err := Text(raw)
	if err != nil {
		text = string(raw)
	}
	n, ok := integer(text)
	if !ok {
		return CodeInternal, false
	}
	return int(n), true
}

// maxExact is the largest integer up to which JSON numbers are exact everywhere.
const maxExact = 1 << 53

// integer reads a JSON number that is an integer however it is written, such as 7, 7.0 or 7e0.
func integer(text string) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !json.Valid([]byte(text)) || math.Abs(f) > maxExact || f != math.Trunc(f) {
		return 0, false
	}
	return int64(f), true
}

// Integer returns the id as a JSON integer if it is one in another form: `"7"`, `7.0` and `7e0` are 7. Some servers
// answer with the id in another type of JSON.
func (id ID) Integer() (ID, bool) {
	text, err := Text(json.RawMessage(id))
	if err != nil {
		text = string(id)
	}
	n, ok := integer(text)
	if !ok {
		return "", false
	}
	return ID(strconv.FormatInt(n, 10)), true
}
