package config

import "strings"

// Key describes one configuration key. The file decoder, the defaults, the checks, the flags, the environment variables
// and the tables of docs/configuration.md are all made from the Keys.
type Key struct {
	Name           string   // path in the file; mcpServers.<name>.url stands for the url of any server
	Type           string   // duration, size, list of strings, ...
	Choices        []Choice // the permitted values, if the type has a fixed set of them
	Default        string   // as the file writes it; "": no value
	DefaultWithURL string   // replaces Default for a server that has a url
	OnlyWith       string   // command or url: only servers with that key may have this one
	Variable       string   // environment variable that overrides the file; "": none
	Flag           string   // flag of mcphub serve that overrides both, such as --listen; "": none
	Usage          string   // help text of the flag, after its Choices; `back quotes` name its argument
	Help           string   // meaning of the key, in Markdown
	OtherNames     []string // names that other programs use for this key; an error suggests Name for them
}

// Choice is one permitted value of a Key.
type Choice struct {
	Value string
	Help  string // Markdown; "" if the value explains itself
}

// Keys returns all configuration keys: first those of the hub, then those of each server.
func Keys() []Key {
	var keys []Key
	for _, r := range hubKeys {
		keys = append(keys, r.describe(""))
	}
	for _, r := range serverKeys {
		keys = append(keys, r.describe("mcpServers.<name>."))
	}
	return keys
}

// A row of the table of keys: the description of a key, and the field of S (Config or Server) that holds its value.
type row[S any] struct {
	value[S]
	Key
}

// describe returns the Key with the facts that come from its type.
func (r row[S]) describe(prefix string) Key {
	k := r.Key
	k.Name = prefix + k.Name
	k.Type = r.typeName
	k.Choices = r.choices
	if r.Flag != "" && r.choices != nil {
		k.Usage = strings.TrimSuffix(alternatives(r.choices)+": "+k.Usage, ": ")
	}
	if k.Default == "" {
		k.Default = r.empty
	}
	return k
}

// fill sets a value that is zero to the default in text. An empty text sets nothing.
func (r row[S]) fill(s *S, text string) {
	if text == "" || !r.isZero(s) {
		return
	}
	var fs findings
	r.set(s, text, r.Name, &fs)
	if err := fs.err(); err != nil {
		panic("config: the default of a key is not valid: " + err.Error())
	}
}

// A value gives access to the field of S that one key sets.
type value[S any] struct {
	typeName string
	choices  []Choice
	empty    string                                        // how the file writes an empty list or mapping
	read     func(s *S) reader                             // reads the value from the file
	set      func(s *S, text, source string, fs *findings) // sets the value to a text that does not come from the file
	isZero   func(s *S) bool
	check    func(s *S, at string, fs *findings)
	dir      func(s *S) *string // the field of a directory, in which ~/ is replaced; nil for other types
}

// field returns the value of type t that is stored in the field at(s).
func field[S, T any](t valueType[T], at func(s *S) *T) value[S] {
	return value[S]{
		typeName: t.name,
		choices:  t.choices,
		empty:    t.empty,
		read: func(s *S) reader {
			return func(d *decoder, n *node, path string) {
				if v, ok := t.read(d, n, path); ok {
					*at(s) = v
				}
			}
		},
		set: func(s *S, text, source string, fs *findings) {
			if v, ok := t.parse(text, *at(s), source, fs); ok {
				*at(s) = v
			}
		},
		isZero: func(s *S) bool { return t.isZero(*at(s)) },
		check:  func(s *S, path string, fs *findings) { t.check(*at(s), path, fs) },
	}
}

// directory returns the value of a field that holds a directory.
func directory[S any](at func(s *S) *string) value[S] {
	v := field(directoryType, at)
	v.dir = at
	return v
}
