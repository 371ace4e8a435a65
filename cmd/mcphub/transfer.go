package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/config"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

const transferHelp = `
The hub must not be running: it owns its directory. The records hold what is
needed for the sessions to go on, the hashes of their secrets included, so keep
the file as you would keep the directory.`

func newSessionsExport() *cobra.Command {
	var s settings
	var output string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the stored sessions of a stopped hub, one JSON object a line",
		Long:  "export writes every stored session, one JSON object a line." + transferHelp,
		Example: `  mcphub sessions export > sessions.jsonl
  mcphub sessions export --data-dir /var/lib/mcphub --output sessions.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := openSessions(s, true)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			var file *os.File
			if output != "" {
				if file, err = os.OpenFile(output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
					return errors.Join(err, store.Close())
				}
				w = file
			}
			n, err := exportSessions(cmd.Context(), store, w)
			if file != nil {
				err = errors.Join(err, file.Sync(), file.Close())
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d sessions exported\n", n)
			return errors.Join(err, store.Close())
		},
	}
	bindDataDir(cmd, &s)
	cmd.Flags().StringVarP(&output, "output", "o", "", "new `file` to write to, readable by you alone; default standard output")
	return cmd
}

func newSessionsImport() *cobra.Command {
	var s settings
	var replace bool
	cmd := &cobra.Command{
		Use:   "import [<file>]",
		Short: "Store sessions that were exported, for a stopped hub to go on with",
		Long:  "import stores the sessions of an export, from a file or from standard input." + transferHelp,
		Example: `  mcphub sessions import sessions.jsonl
  mcphub sessions export --data-dir old | mcphub sessions import --data-dir new`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if len(args) == 1 {
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer func() { _ = file.Close() }()
				in = file
			}
			store, err := openSessions(s, false)
			if err != nil {
				return err
			}
			stored, kept, err := importSessions(cmd.Context(), store, in, replace)
			fmt.Fprintf(cmd.ErrOrStderr(), "%d sessions imported, %d left as they were\n", stored, kept)
			return errors.Join(err, store.Close())
		},
	}
	bindDataDir(cmd, &s)
	cmd.Flags().BoolVar(&replace, "replace", false, "overwrite sessions that are there already")
	return cmd
}

func bindDataDir(cmd *cobra.Command, s *settings) {
	s.bind(cmd.Flags(), "dataDir")
}

// openSessions opens the directory of a stopped hub, which with exists must be
// there already.
func openSessions(s settings, exists bool) (*persist.Dir, error) {
	var cfg config.Config
	cfg, _, err := s.load(os.LookupEnv)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.DataDir, "sessions")
	if _, err := os.Stat(dir); exists && err != nil {
		return nil, fmt.Errorf("there are no sessions in %s; name the hub's directory with --data-dir: %w", cfg.DataDir, err)
	}
	return persist.OpenDir(dir, persist.DirConfig{})
}

// exportSessions writes every record in the order of its key. What cannot be
// read is left out, and the error says so.
func exportSessions(ctx context.Context, store persist.Store, w io.Writer) (exported int, damaged error) {
	var keys []string
	for key, err := range store.Keys(ctx) {
		if err != nil {
			return 0, err
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	out := bufio.NewWriter(w)
	for _, key := range keys {
		value, ok, err := store.Get(ctx, key)
		if err == nil && ok {
			err = session.CheckRecord(key, value)
		}
		if err != nil || !ok {
			damaged = errors.Join(damaged, fmt.Errorf("session %s is left out: %w", key, cmp.Or(err, errGone)))
			continue
		}
		var line bytes.Buffer
		if err := json.Compact(&line, value); err != nil { // not after the check
			return exported, err
		}
		line.WriteByte('\n')
		if _, err := out.Write(line.Bytes()); err != nil {
			return exported, err
		}
		exported++
	}
	return exported, errors.Join(out.Flush(), damaged)
}

var errGone = errors.New("it is gone")

// importBatch is how many records are written with one sync of the directory.
const importBatch = 500

// importSessions stores the records that in has, one a line. What is there
// already stays unless replace is set. The first bad line ends the import.
func importSessions(ctx context.Context, store persist.Store, in io.Reader, replace bool) (stored, kept int, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 2*persist.MaxValue)
	var batch []persist.Change
	flush := func() error {
		err := store.Apply(ctx, batch)
		if err == nil {
			stored += len(batch)
		}
		batch = nil
		return err
	}
	for number := 1; lines.Scan(); number++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var record struct {
			SessionID string `json:"sessionId"`
		}
		if err := json.Unmarshal(lines.Bytes(), &record); err != nil {
			return stored, kept, fmt.Errorf("line %d is no session: %w", number, err)
		}
		_, exists, err := store.Get(ctx, record.SessionID)
		if err == nil {
			err = session.CheckRecord(record.SessionID, lines.Bytes())
		}
		if err != nil {
			return stored, kept, fmt.Errorf("line %d: %w", number, err)
		}
		if exists && !replace {
			kept++
			continue
		}
		batch = append(batch, persist.Change{Key: record.SessionID, Value: bytes.Clone(lines.Bytes())})
		if len(batch) == importBatch {
			if err := flush(); err != nil {
				return stored, kept, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return stored, kept, err
	}
	return stored, kept, flush()
}
