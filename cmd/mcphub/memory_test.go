package main

import (
	"testing"

	"github.com/mcphub-go/mcphub/pkg/config"
)

func TestMemoryIsDividedByTheLimitAndDefaultsFollowIt(t *testing.T) {
	small := processMemory{size: 256 << 20, part: 2, source: "cgroup"}
	large := processMemory{size: 64 << 30, part: 4, source: "machine"}
	standard, chosen := config.Default(), config.Default()
	chosen.Limits.Memory, chosen.Limits.MaxMessageBytes, chosen.Sessions.MaxSessions = 32<<20, 48<<20, 50_000
	unlimited := config.Default()
	unlimited.Sessions.MaxSessions = config.NoLimit
	for name, x := range map[string]struct {
		cfg      config.Config
		of       processMemory
		limit    int64
		source   string
		sessions int
		message  int64
	}{
		"half of the limit of a cgroup":            {standard, small, 128 << 20, "cgroup", 8192, 16 << 20},
		"a quarter of the machine":                 {standard, large, 16 << 30, "machine", 100_000, 64 << 20},
		"the configuration, as the operator wants": {chosen, large, 32 << 20, "limits.memory", 50_000, 48 << 20},
		"no limit of sessions":                     {unlimited, small, 128 << 20, "cgroup", config.NoLimit, 16 << 20},
	} {
		p := planMemory(x.cfg, x.of)
		if p.limit != x.limit || p.source != x.source || p.sessions != x.sessions || p.message != x.message {
			t.Errorf("%s: %+v", name, p)
		}
		if p.held+p.history != p.limit || p.records > p.limit/8 || int64(p.clients)*connectionMemory > p.limit/4 {
			t.Errorf("%s: the parts are %+v", name, p)
		}
	}
}

func TestMemoryOfTheProcessIsFound(t *testing.T) {
	if m := findMemory(); m.size < 64<<20 || m.part < 2 || m.source == "" || m.source == "default" {
		t.Errorf("found %+v", m)
	}
}
