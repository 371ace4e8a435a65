package jsonrpc

import (
	"bytes"
	"strings"
)

// maxDocuments bounds the objects and arrays in one text, messages or not.
const maxDocuments = MaxBatch

// Said is what a text of a server says. Its messages alias the text, or a repaired copy of it.
type Said struct {
	Messages   []Message
	Repairs    Repairs
	Unreadable *Unreadable // a part that cannot be understood; nil: there is none
}

// Unreadable is a message that cannot be understood, or a text that is no message at all.
type Unreadable struct {
	IDs      []ID // that the message may have; usually one, empty if none can be told
	IsMethod bool // it is a request or a notification, not a response
	Reason   *Error
}

// Understand reads what a server has sent. A text that [Parse] accepts is that message. What is wrong but can mean one
// thing only is repaired:
//
//   - in strings: bytes that are not UTF-8, half surrogate pairs, raw control characters
//   - around messages: a byte order mark, several messages in one text, an array, log text before or after them
//   - in envelopes: a missing or misspelt version, members that are null or given twice, names in upper case, errors
//     that are no error objects. A response may lack its id.
//
// After other text, only responses are taken for messages: servers also log what they receive.
func Understand(data []byte) Said {
	var said Said
	m, err := Parse(data)
	if err == nil {
		said.add(m)
		return said
	}
	reason := AsError(err)
	if isUTF16(data) {
		said.Unreadable = unreadable(bytes.ReplaceAll(data, []byte{0}, nil),
			&Error{Code: CodeParse, Message: "the message is UTF-16; it must be UTF-8"})
		return said
	}
	text, hasMark := bytes.CutPrefix(data, []byte(byteOrderMark))
	if hasMark {
		said.Repairs |= RepairedBOM
	}
	said.read(text)
	if len(said.Messages) == 0 && said.Unreadable == nil {
		said.Unreadable = unreadable(withDoubleQuotes(text), reason)
	}
	return said
}

// add adds a message that Parse has accepted.
func (s *Said) add(m Message) {
	if m.Error != nil {
		if fixed, repaired := wellFormedError(m.Error); repaired {
			m.Error = fixed
			s.Repairs |= RepairedError
		}
	}
	s.Messages = append(s.Messages, m)
}

// read reads the messages in text.
func (s *Said) read(text []byte) {
	embedded := false // behind text that is no message
	documents := 0
	for ; documents < maxDocuments; documents++ {
		text = bytes.TrimLeft(text, whitespace)
		at := documentStart(text, embedded)
		if at < 0 {
			break
		}
		embedded = embedded || at > 0
		text = text[at:]
		doc := firstDocument(text)
		switch {
		case doc.complete && text[0] == '[':
			embedded = !s.readArray(doc.text) || embedded
		case doc.complete:
			embedded = !s.readDocument(doc.text, embedded) || embedded
		case text[0] == '[': // such as [1/2
			embedded, doc.size = true, 1
		case !embedded: // the rest of a log record may be cut off, and the whole message follow
			s.fail(text, &Error{Code: CodeParse, Message: "the message is not valid JSON: it ends too early"}, false)
		}
		if doc.complete {
			s.Repairs |= doc.repairs
		}
		text = text[doc.size:]
	}
	if len(s.Messages) == 0 {
		s.Repairs = 0
	} else if documents > 1 || embedded || len(bytes.Trim(text, whitespace)) > 0 {
		s.Repairs |= RepairedFraming
	}
}

// documentStart returns where the next object, or an array that text begins with, may begin; -1 if there is none.
func documentStart(text []byte, embedded bool) int {
	if len(text) > 0 && text[0] == '[' && !embedded {
		return 0
	}
	for at := 0; ; at++ {
		next := bytes.IndexByte(text[at:], '{')
		if next < 0 {
			return -1
		}
		at += next
		if name := bytes.TrimLeft(text[at+1:], whitespace); len(name) > 0 && name[0] == '"' {
			return at
		}
	}
}

// readDocument reads one object. It reports false for one that is no message.
func (s *Said) readDocument(text []byte, embedded bool) bool {
	m, repairs, err := readMessage(text)
	switch {
	case err != nil:
		return s.fail(text, AsError(err), embedded)
	case embedded && m.Kind() != Response:
		return true // the server has logged what it received
	}
	s.Repairs |= repairs
	s.add(m)
	return true
}

// readMessage reads one message as a server may write it.
func readMessage(text []byte) (Message, Repairs, error) {
	if m, err := Parse(text); err == nil {
		return m, 0, nil
	}
	return readEnvelope(text, true)
}

// readArray reads an array of messages. It reports false for one that has none.
func (s *Said) readArray(text []byte) bool {
	elements, err := ParseBatch(text)
	if err != nil {
		return false
	}
	isBatch := false
	for _, raw := range elements {
		isBatch = len(raw) > 0 && raw[0] == '{' && s.readDocument(raw, false) || isBatch
	}
	if isBatch {
		s.Repairs |= RepairedFraming
	}
	return isBatch
}

// fail notes a part that cannot be understood, and reports true, if it is a message. The first one counts.
func (s *Said) fail(text []byte, reason *Error, embedded bool) bool {
	u := unreadable(text, reason)
	if len(u.IDs) == 0 || embedded && u.IsMethod {
		return false
	}
	if s.Unreadable == nil {
		s.Unreadable = u
	}
	return true
}

// withDoubleQuotes returns text in other quotes if it is an object in single ones, as Python prints it, so that its id is
// found. Otherwise it returns nothing.
func withDoubleQuotes(text []byte) []byte {
	if !bytes.HasPrefix(bytes.TrimLeft(text, whitespace), []byte("{'")) {
		return nil
	}
	return bytes.ReplaceAll(text, []byte("'"), []byte(`"`))
}

// unreadable finds out what can be told of the message that text begins with.
func unreadable(text []byte, reason *Error) *Unreadable {
	o := outlineOf(text)
	u := &Unreadable{IsMethod: o.hasMethod, Reason: reason}
	if o.isMessage() {
		u.IDs = o.ids
	}
	return u
}

// Oversized tells what can be told of a message that is too long to be read, from its first and its last bytes.
func Oversized(head, tail []byte, reason *Error) *Unreadable {
	u := unreadable(bytes.TrimLeft(head, whitespace), reason)
	if len(u.IDs) == 0 && !u.IsMethod {
		var o outline
		o.addTail(tail)
		u.IDs = o.ids
	}
	return u
}

// isUTF16 reports whether data is a text in UTF-16, which has a zero byte beside each character of JSON's own.
func isUTF16(data []byte) bool {
	head := data[:min(len(data), 64)]
	return bytes.Count(head, []byte{0}) > len(head)/3
}

// ParsePatiently reads one message of a client, which has tried and failed to be one for Parse: what is wrong in
// strings is repaired, and null members count as missing where that is one and the same. Everything else is refused as
// Parse does it. If an id can be found, the returned Message contains it even then.
func ParsePatiently(data []byte) (Message, Repairs, error) {
	text, hasMark := bytes.CutPrefix(data, []byte(byteOrderMark))
	text = bytes.Trim(text, whitespace)
	m, reason := Parse(data)
	if len(text) == 0 || text[0] != '{' || reason == nil {
		return m, 0, reason
	}
	doc := firstDocument(text)
	repairs := doc.repairs
	if hasMark {
		repairs |= RepairedBOM
	}
	if doc.complete && doc.size == len(text) {
		m, more, err := readEnvelope(doc.text, false)
		repairs |= more
		if err == nil {
			err = m.checkPatient(repairs)
		}
		if err == nil {
			return m, repairs, nil
		}
		if e := AsError(err); e.Code == CodeInvalidRequest {
			reason = e
		}
		if m.ID != "" {
			return m, 0, reason
		}
	}
	if o := outlineOf(text); len(o.ids) == 1 {
		return Message{ID: o.ids[0]}, 0, reason
	}
	return Message{}, 0, reason
}

// checkPatient refuses what must not be repaired in a message of a client.
func (m Message) checkPatient(repairs Repairs) error {
	if m.Kind() == Response && m.ID == "" {
		return invalid("a response needs an id")
	}
	replaced := strings.Contains(string(m.ID), "\ufffd") || strings.Contains(string(m.ID), `\ufffd`)
	if replaced && repairs&(RepairedUTF8|RepairedSurrogate) != 0 {
		return invalid("the id is not valid UTF-8")
	}
	return nil
}
