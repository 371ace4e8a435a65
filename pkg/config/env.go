package config

import "errors"

// override is a value that the environment and a flag can set.
type override struct {
	variable, flag string
	to             *string
	check          func(string) string // what is wrong, "" for nothing
}

func (c *Config) overrides() []override {
	return []override{
		{"MCPHUB_LISTEN", "--listen", &c.Listen, checkAddress},
		{"MCPHUB_ADMIN_LISTEN", "--admin-listen", &c.Admin.Listen, checkAddress},
		{"MCPHUB_DATA_DIR", "--data-dir", &c.DataDir, checkDir},
		{"MCPHUB_LOG_LEVEL", "--log-level", &c.Log.Level, checkLevel},
		{"MCPHUB_LOG_FORMAT", "--log-format", &c.Log.Format, checkFormat},
		{"MCPHUB_TRACE_PARENT", "--trace-parent", &c.Tracing.Parent, func(v string) string { return oneOf(v, aParent, "remote", "link", "ignore") }},
	}
}

// ApplyEnv lets the environment override the file: MCPHUB_LISTEN,
// MCPHUB_ADMIN_LISTEN, MCPHUB_DATA_DIR, MCPHUB_LOG_LEVEL,
// MCPHUB_LOG (levels of subsystems), MCPHUB_LOG_FORMAT and MCPHUB_TRACE_PARENT. A variable that is empty overrides nothing. A leading ~/
// of the directories is replaced as well.
func (c *Config) ApplyEnv(lookup func(name string) (value string, ok bool)) error {
	errs := []error{c.apply(lookup, func(o override) string { return o.variable })}
	if value, _ := lookup(logVariable); value != "" {
		errs = append(errs, c.Log.applyLog(value))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.expandHome()
}

// ApplyFlags lets flags override the rest: --listen, --admin-listen, --data-dir,
// --log-level, --log-format and --trace-parent. One that is empty overrides nothing.
func (c *Config) ApplyFlags(lookup func(flag string) (value string, ok bool)) error {
	if err := c.apply(lookup, func(o override) string { return o.flag }); err != nil {
		return err
	}
	return c.expandHome()
}

// apply sets what lookup knows, and says all that is wrong with it.
func (c *Config) apply(lookup func(string) (string, bool), name func(override) string) error {
	var errs []error
	for _, o := range c.overrides() {
		value, ok := lookup(name(o))
		if !ok || value == "" {
			continue
		}
		if wrong := o.check(value); wrong != "" {
			errs = append(errs, errors.New(sentence(name(o), wrong)))
			continue
		}
		*o.to = value
	}
	return errors.Join(errs...)
}
