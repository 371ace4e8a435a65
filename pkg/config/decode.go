package config

import (
	"maps"
	"slices"
	"strings"
)

// decoder reads nodes into a Config and notes where every value stood.
type decoder struct {
	*problems
	lookup func(string) (string, bool)
	keys   map[string]position // by key path
	values map[string]position
}

// A reader reads one value; at is its key path.
type reader func(d *decoder, n *node, at string)

// A schema says which keys a mapping has.
type schema map[string]reader

func (c *Config) schema() schema {
	return schema{
		"listen": text(&c.Listen, anAddress),
		"admin": object(schema{
			"listen":   text(&c.Admin.Listen, anAddress),
			"payloads": truth(&c.Admin.Payloads),
		}),
		"dataDir": text(&c.DataDir, "a directory"),
		"log": object(schema{
			"level":  text(&c.Log.Level, aLevel),
			"levels": logLevels(&c.Log.Levels),
			"format": text(&c.Log.Format, aFormat),
		}),
		"tracing": object(schema{
			"parent":  text(&c.Tracing.Parent, aParent),
			"baggage": texts(&c.Tracing.Baggage),
		}),
		"metrics": object(schema{
			"toolLabel":     text(&c.Metrics.ToolLabel, aToolLabel),
			"maxToolLabels": count(&c.Metrics.MaxToolLabels),
		}),
		"sessions": object(schema{
			"idleTimeout":     duration(&c.Sessions.IdleTimeout),
			"cleanupInterval": duration(&c.Sessions.CleanupInterval),
			"flushInterval":   duration(&c.Sessions.FlushInterval),
			"touchThrottle":   duration(&c.Sessions.TouchThrottle),
			"maxLifetime":     durationOrNone(&c.Sessions.MaxLifetime),

			"maxSessions":          countOrNone(&c.Sessions.MaxSessions),
			"maxSessionsPerClient": countOrNone(&c.Sessions.MaxSessionsPerClient),
			"atLimit":              text(&c.Sessions.AtLimit, anAtLimit),
		}),
		"limits": object(schema{
			"maxRequestBytes": size(&c.Limits.MaxRequestBytes),
			"maxMessageBytes": size(&c.Limits.MaxMessageBytes),
			"maxInFlight":     count(&c.Limits.MaxInFlight),
			"pageSize":        count(&c.Limits.PageSize),
			"shutdownTimeout": duration(&c.Limits.ShutdownTimeout),
		}),
		"streams": object(schema{
			"patience":     duration(&c.Streams.Patience),
			"resumeEvents": count(&c.Streams.ResumeEvents),
			"resumeBytes":  size(&c.Streams.ResumeBytes),
			"resumeWindow": duration(&c.Streams.ResumeWindow),
		}),
		"allowedHosts":   texts(&c.AllowedHosts),
		"allowedOrigins": texts(&c.AllowedOrigins),
		"naming":         text(&c.Naming, aNaming),
		"mcpServers":     servers(&c.Servers),
	}
}

func (s *Server) schema() schema {
	return schema{
		"command":        text(&s.Command, "the name or path of a program"),
		"args":           texts(&s.Args),
		"env":            secrets(&s.Env),
		"cwd":            text(&s.Cwd, "a directory"),
		"url":            text(&s.URL, aURL),
		"headers":        secrets(&s.Headers),
		"isolation":      text(&s.Isolation, anIsolation),
		"era":            text(&s.Era, anEra),
		"bridge":         text(&s.Bridge, aBridge),
		"connectTimeout": duration(&s.ConnectTimeout),
		"callTimeout":    duration(&s.CallTimeout),
		"disabled":       truth(&s.Disabled),
		"type":           text(&s.Type, aType),
	}
}

func object(s schema) reader {
	return func(d *decoder, n *node, at string) { d.object(n, at, s) }
}

func (d *decoder) object(n *node, at string, s schema) {
	d.each(n, at, func(f field, path string) {
		if read, ok := s[f.key]; ok {
			read(d, f.value, path)
			return
		}
		known := slices.Sorted(maps.Keys(s))
		expected := "expected one of " + strings.Join(known, ", ")
		if hint := closest(f.key, known); hint != "" {
			expected = "did you mean " + hint + "?"
		}
		d.add(f.position, visible(at, f.key), "unknown key; "+expected)
	})
}

// each calls f for every field of a mapping. A key with nothing behind it,
// all of it commented out, is an empty mapping.
func (d *decoder) each(n *node, at string, f func(f field, at string)) {
	if n.kind == kindNone {
		return
	}
	if n.kind != kindMapping {
		d.wrong(n, at, "a mapping of keys to values")
		return
	}
	for _, field := range n.fields {
		if field.wrong != "" {
			d.add(field.position, visible(at, field.key), field.wrong)
			continue
		}
		path := join(at, field.key)
		d.keys[path] = field.position
		d.values[path] = field.value.position
		f(field, path)
	}
}

// wrong notes that n is not what was expected.
func (d *decoder) wrong(n *node, at, expected string) {
	switch n.kind {
	case kindRefused:
		d.add(n.position, at, n.text)
	case kindNone:
		d.add(n.position, at, "has no value; expected "+expected)
	default:
		d.add(n.position, at, "is "+string(n.kind)+"; expected "+expected)
	}
}

func servers(to *[]Server) reader {
	return func(d *decoder, n *node, at string) {
		d.each(n, at, func(f field, at string) {
			s := Server{Name: f.key}
			d.object(f.value, at, s.schema())
			*to = append(*to, s)
		})
	}
}

func secrets(to *map[string]Secret) reader {
	return func(d *decoder, n *node, at string) {
		values := map[string]Secret{}
		d.each(n, at, func(f field, at string) {
			if s, ok := d.text(f.value, at, aText); ok {
				values[f.key] = Secret(s)
			}
		})
		*to = values
	}
}

func texts(to *[]string) reader {
	return func(d *decoder, n *node, at string) {
		switch n.kind {
		case kindNone:
			return
		case kindList:
		default:
			d.wrong(n, at, "a list such as [one, two]")
			return
		}
		list := []string{}
		for i, item := range n.items {
			at := index(at, i)
			d.values[at] = item.position
			if s, ok := d.text(item, at, aText); ok {
				list = append(list, s)
			}
		}
		*to = list
	}
}
