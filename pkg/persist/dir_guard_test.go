package persist

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGuardTakesOnlyThePermissionToWriteFromOthers(t *testing.T) {
	for name, tt := range map[string]struct{ mode, want fs.FileMode }{
		"all":     {0o777, 0o755},
		"group":   {0o770, 0o750},
		"set gid": {fs.ModeSetgid | 0o775, fs.ModeSetgid | 0o755},
		"readers": {0o755, 0o755},
		"private": {0o700, 0o700},
		"sticky":  {fs.ModeSticky | 0o777, fs.ModeSticky | 0o777},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			if err := Guard(path, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if got := info.Mode() &^ fs.ModeDir; err != nil || got != tt.want {
				t.Errorf("mode %v, %v; want %v", got, err, tt.want)
			}
			if (log.Len() > 0) != (tt.mode != tt.want) {
				t.Errorf("the log has %q", &log)
			}
		})
	}
	if err := Guard(filepath.Join(t.TempDir(), "missing"), slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestDirectoryThatCannotBeTightenedIsRefusedInWords(t *testing.T) {
	for name, tt := range map[string]struct {
		mode    fs.FileMode
		trusted bool
		refused bool
	}{
		"all can write":              {0o777, false, true},
		"a group can write":          {0o770, false, true},
		"all can write, but trusted": {0o777, true, false},
		"others can read":            {0o755, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			a := access{path: "/data", mode: tt.mode, chmod: func(fs.FileMode) error { return fs.ErrPermission }}
			err := a.restrict(0o700, tt.trusted, slog.New(slog.NewTextHandler(&log, nil)))
			if (err != nil) != tt.refused || (log.Len() > 0) == tt.refused {
				t.Fatalf("restrict = %v, log %q", err, &log)
			}
			for _, want := range []string{"/data", "other users can write", "chmod", "dataDir"} {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in %v", want, err)
				}
			}
		})
	}
}
