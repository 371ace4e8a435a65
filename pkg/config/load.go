package config

import (
	"fmt"
	"io"
	"os"
)

const maxFileBytes = 1 << 20

// Load reads and parses the file at path, and replaces a leading ~/ of its directories. The value of a ${VAR} is
// that of the first lookup that has it. Without a lookup it comes from the environment.
func Load(path string, lookup ...func(name string) (value string, ok bool)) (Config, error) {
	data, err := readFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	if len(lookup) == 0 {
		lookup = append(lookup, os.LookupEnv)
	}
	c, err := Parse(path, data, firstOf(lookup))
	if err != nil {
		return Config{}, err
	}
	return c, c.expandHome()
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read: an error of Close loses nothing
	// Read one byte more than is allowed, so that Parse can report a file that is too large.
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

func firstOf(lookups []func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, lookup := range lookups {
			if value, ok := lookup(name); ok {
				return value, true
			}
		}
		return "", false
	}
}

// Parse reads data, which is YAML or JSON, gives every other key its default, and validates the result. The value
// of each ${VAR} comes from lookup; a nil lookup has no variables. The error has a line for each problem:
//
//	name:line:column: key path: what is wrong; what was expected
func Parse(name string, data []byte, lookup func(name string) (value string, ok bool)) (Config, error) {
	ps := &problems{file: name}
	root := readDocument(data, ps)
	if root == nil && len(ps.list) > 0 {
		return Config{}, ps.err()
	}
	c := Default()
	d := &decoder{problems: ps, lookup: lookup, keys: map[string]position{}, values: map[string]position{}}
	if root != nil {
		schemaOf(hubKeys, &c).read(d, root, "")
	}
	c.fill()
	d.addFindings(c.check())
	if err := ps.err(); err != nil {
		return Config{}, err
	}
	return c, nil
}
