package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds for a file of maxFileBytes. The parser's time grows with the square
// of the tokens, its stack and its key paths with the depth.
const (
	maxTokens = 20_000
	maxDepth  = 32
	maxNodes  = 100_000 // after aliases are followed
)

// readDocument returns the root of the one document in data, nil when there
// is none: then either nothing is in it, or a problem says why.
func readDocument(data []byte, ps *problems) *node {
	text, ok := readable(data, ps)
	if !ok {
		return nil
	}
	docs, err := parse(text)
	if err != nil {
		pos, reason := syntaxError(err)
		if bytes.Contains(line(text, pos.line), []byte("${")) {
			reason += `; inside { } and [ ] a ${VAR} needs quotes: "${VAR}"`
		}
		ps.add(pos, "", reason)
		return nil
	}
	if len(docs) == 0 {
		return nil
	}
	if len(docs) > 1 {
		ps.add(at(docs[1].GetToken()), "", "a second document begins here; expected one document in the file")
		return nil
	}
	b := builder{anchors: map[string]*node{}}
	root := b.node(docs[0])
	if b.full != nil {
		ps.add(*b.full, "", "aliases make the file too large")
		return nil
	}
	return root
}

// readable returns data as the parser wants it, with the lines and columns
// it had.
func readable(data []byte, ps *problems) (text []byte, ok bool) {
	if len(data) > maxFileBytes {
		ps.add(position{1, 1}, "", "the file is larger than 1 MiB")
		return nil, false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	pos := position{1, 1}
	for rest := data; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			ps.add(pos, "", "this is not text in UTF-8")
			return nil, false
		case r < ' ' && r != '\n' && r != '\t':
			ps.add(pos, "", "a control character stands here; expected text")
			return nil, false
		case r == '\n':
			pos = position{pos.line + 1, 0}
		}
		pos.column++
		rest = rest[n:]
	}
	// The YAML parser miscounts columns behind a tab. JSON has its tabs only
	// between values, so a space does as well.
	if json.Valid(data) {
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	return data, true
}

// parse returns the documents in text that hold something.
func parse(text []byte) (docs []ast.Node, err error) {
	defer func() {
		if recover() != nil {
			docs, err = nil, errors.New("this cannot be read as YAML")
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if err := bound(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			docs = append(docs, doc.Body)
		}
	}
	return docs, nil
}

// bound refuses, before the parser sees it, what would keep it busy or run
// it out of stack.
func bound(tokens token.Tokens) error {
	var (
		count, flow int
		block       []int // columns of the mappings and lists around
	)
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		if count++; count > maxTokens {
			return tokenError{t, "the file has too many values; expected one that people write"}
		}
		switch t.Type {
		case token.DirectiveType:
			return tokenError{t, "YAML directives (%) are not supported"}
		case token.TagType:
			return tokenError{t, "YAML tags (!) are not supported; a text that begins with ! needs quotes"}
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType:
			block = nest(block, t.Position.Column)
		case token.MappingValueType:
			if flow == 0 && t.Prev != nil {
				block = nest(block, t.Prev.Position.Column)
			}
		}
		if flow+len(block) > maxDepth {
			return tokenError{t, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
		}
	}
	return nil
}

func nest(columns []int, column int) []int {
	for len(columns) > 0 && columns[len(columns)-1] >= column {
		columns = columns[:len(columns)-1]
	}
	return append(columns, column)
}

type tokenError struct {
	token  *token.Token
	reason string
}

func (e tokenError) Error() string { return e.reason }

// syntaxError takes the reason from err and leaves its excerpt of the source
// behind: that may show a secret.
func syntaxError(err error) (position, string) {
	var (
		bounds tokenError
		syntax *yaml.SyntaxError
	)
	switch {
	case errors.As(err, &bounds):
		return at(bounds.token), bounds.reason
	case errors.As(err, &syntax):
		return at(syntax.Token), "not valid YAML: " + syntax.Message
	default:
		return position{1, 1}, "not valid YAML"
	}
}

func at(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{max(1, t.Position.Line), max(1, t.Position.Column)}
}

func line(text []byte, n int) []byte {
	lines := bytes.SplitN(text, []byte("\n"), n+1)
	if n > len(lines) {
		return nil
	}
	return lines[n-1]
}
