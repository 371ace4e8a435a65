package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds in addition to maxFileBytes. The time of the parser grows with the square of the number of tokens; its
// stack and its key paths grow with the depth.
const (
	maxTokens = 20_000
	maxDepth  = 32
	maxNodes  = 100_000 // with aliases resolved
)

// readDocument returns the root of data. It returns nil if data is empty, and if it is not valid: then it adds a problem.
func readDocument(data []byte, ps *problems) *node {
	text, ok := readable(data, ps)
	if !ok {
		return nil
	}
	if isJSON(text) {
		return readJSON(text, ps)
	}
	return readYAML(text, ps)
}

// readYAML returns the root of the only document in text. It returns nil if text is empty, and if it is not valid: then
// it adds a problem.
func readYAML(text []byte, ps *problems) *node {
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
		ps.add(*b.full, "", fmt.Sprintf("the aliases add up to more than %d values; expected fewer aliases", maxNodes))
		return nil
	}
	return root
}

// parse returns the documents in text that are not empty. A panic of the parser is an error.
func parse(text []byte) (docs []ast.Node, err error) {
	defer func() {
		if recover() != nil {
			docs, err = nil, errors.New("the YAML parser panicked")
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

// bound returns an error for tokens that would take the parser too much time or stack, and for syntax that is not
// supported.
func bound(tokens token.Tokens) error {
	var (
		count, flow int
		block       []int // columns of the block mappings and lists around the token
	)
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		if count++; count > maxTokens {
			return tokenError{t, fmt.Sprintf("the file has more than %d YAML tokens; expected fewer", maxTokens)}
		}
		if t.Type == token.StringType && looksLikeComment(t.Value) {
			return tokenError{t, "comments begin with # in YAML; a string that begins with // or /* needs quotes"}
		}
		switch t.Type {
		case token.DirectiveType:
			return tokenError{t, "YAML directives (%) are not supported"}
		case token.TagType:
			return tokenError{t, "YAML tags (!) are not supported; a string that begins with ! needs quotes"}
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

// looksLikeComment reports whether a string without quotes is a comment of JSON, such as one that comments an argument
// out in a file that begins with a comment of YAML. It must not become an argument.
func looksLikeComment(text string) bool {
	return strings.HasPrefix(text, "//") || strings.HasPrefix(text, "/*")
}

// nest returns the columns of the mappings and lists around a new one at column, with its own.
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

// syntaxError returns the position and the reason of err. The text of err is not used: its excerpt of the file may
// contain a secret.
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

// at returns the position of a token.
func at(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{max(1, t.Position.Line), max(1, t.Position.Column)}
}

// line returns line n of text; the first is 1.
func line(text []byte, n int) []byte {
	lines := bytes.SplitN(text, []byte("\n"), n+1)
	if n > len(lines) {
		return nil
	}
	return lines[n-1]
}
