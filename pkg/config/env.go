package config

// ApplyEnv lets environment variables override the file: those that the table of keys names. An empty variable
// overrides nothing. It also replaces a leading ~/ of the directories.
func (c *Config) ApplyEnv(lookup func(variable string) (value string, ok bool)) error {
	return c.override(lookup, func(k Key) string { return k.Variable })
}

// ApplyFlags lets flags override the file and the environment: those that the table of keys names, such as --listen. An
// empty flag overrides nothing. It also replaces a leading ~/ of the directories.
func (c *Config) ApplyFlags(lookup func(flag string) (value string, ok bool)) error {
	return c.override(lookup, func(k Key) string { return k.Flag })
}

// override sets the keys for which lookup has a value. Its error lists everything that is wrong, each with the name of
// its source. source returns that name; "" for a key that cannot be overridden.
func (c *Config) override(lookup func(string) (string, bool), source func(Key) string) error {
	var fs findings
	for _, r := range hubKeys {
		name := source(r.Key)
		if name == "" {
			continue
		}
		if text, ok := lookup(name); ok && text != "" {
			r.set(c, text, name, &fs)
		}
	}
	if err := fs.err(); err != nil {
		return err
	}
	return c.expandHome()
}
