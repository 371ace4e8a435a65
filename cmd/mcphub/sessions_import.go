package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

func newSessionsImport() *cobra.Command {
	var s settings
	var replace bool
	cmd := &cobra.Command{
		Use:   "import [<file>]",
		Short: "Store exported sessions for a stopped hub, which goes on with them",
		Long:  "import stores the sessions of an export, from a file or from standard input." + transferHelp,
		Example: `  mcphub sessions import sessions.jsonl
  mcphub sessions export --data-dir old | mcphub sessions import --data-dir new`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if len(args) == 1 {
				file, err := untilDone(cmd.Context(), func() (*os.File, error) { return os.Open(args[0]) })
				if err != nil {
					return err
				}
				defer func() { _ = file.Close() }()
				in = file
			}
			store, err := openSessions(cmd.Context(), s, false)
			if err != nil {
				return err
			}
			i := sessionImport{store: store, replace: replace}
			err = i.run(cmd.Context(), interruptible(cmd.Context(), in))
			fmt.Fprintf(cmd.ErrOrStderr(), "%d sessions imported, %d left as they were\n", i.stored, i.kept)
			return errors.Join(err, store.Close())
		},
	}
	bindDataDir(cmd, &s)
	cmd.Flags().BoolVar(&replace, "replace", false, "overwrite sessions that are already stored")
	return cmd
}

// importBatch is the number of records that are written with one sync of the
// directory.
const importBatch = 500

// sessionImport stores exported records.
type sessionImport struct {
	store   persist.Store
	replace bool // overwrite stored records

	batch        []persist.Change // not written yet
	stored, kept int
}

// run stores the records in in, one a line. It stops at the first line that is
// not a valid record; the full batches before it are stored.
func (i *sessionImport) run(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 2*persist.MaxValue)
	for number := 1; lines.Scan(); number++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := i.add(ctx, lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if len(i.batch) == importBatch {
			if err := i.flush(ctx); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return i.flush(ctx)
}

// add adds the record in line to the batch, unless one with its id is stored
// and must stay.
func (i *sessionImport) add(ctx context.Context, line []byte) error {
	var record struct {
		SessionID string `json:"sessionId"`
	}
	if err := json.Unmarshal(line, &record); err != nil {
		return fmt.Errorf("not a session: %w", err)
	}
	_, exists, err := i.store.Get(ctx, record.SessionID)
	if err == nil {
		err = session.CheckRecord(record.SessionID, line)
	}
	if err != nil {
		return err
	}
	if exists && !i.replace {
		i.kept++
		return nil
	}
	i.batch = append(i.batch, persist.Change{Key: record.SessionID, Value: bytes.Clone(line)})
	return nil
}

// flush writes the batch.
func (i *sessionImport) flush(ctx context.Context) error {
	err := i.store.Apply(ctx, i.batch)
	if err == nil {
		i.stored += len(i.batch)
	}
	i.batch = nil
	return err
}
