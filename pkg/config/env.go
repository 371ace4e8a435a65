package config

import "errors"

// ApplyEnv lets the environment override the file: MCPHUB_LISTEN,
// MCPHUB_ADMIN_LISTEN, MCPHUB_DATA_DIR, MCPHUB_LOG_LEVEL,
// MCPHUB_LOG (levels of subsystems), MCPHUB_LOG_FORMAT and MCPHUB_TRACE_PARENT. A variable that is empty overrides nothing. A leading ~/
// of the directories is replaced as well.
func (c *Config) ApplyEnv(lookup func(name string) (value string, ok bool)) error {
	var errs []error
	for _, v := range []struct {
		name  string
		to    *string
		check func(string) string
	}{
		{"MCPHUB_LISTEN", &c.Listen, checkAddress},
		{"MCPHUB_ADMIN_LISTEN", &c.Admin.Listen, checkAddress},
		{"MCPHUB_DATA_DIR", &c.DataDir, checkDir},
		{"MCPHUB_LOG_LEVEL", &c.Log.Level, checkLevel},
		{"MCPHUB_LOG_FORMAT", &c.Log.Format, checkFormat},
		{"MCPHUB_TRACE_PARENT", &c.Tracing.Parent, func(v string) string { return oneOf(v, aParent, "remote", "link", "ignore") }},
	} {
		value, ok := lookup(v.name)
		if !ok || value == "" {
			continue
		}
		if wrong := v.check(value); wrong != "" {
			errs = append(errs, errors.New(sentence(v.name, wrong)))
			continue
		}
		*v.to = value
	}
	if value, _ := lookup(logVariable); value != "" {
		errs = append(errs, c.Log.applyLog(value))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.expandHome()
}
