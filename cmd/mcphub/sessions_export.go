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
	"slices"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/persist"
	"github.com/mcphub-go/mcphub/pkg/session"
)

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
			store, err := openSessions(cmd.Context(), s, true)
			if err != nil {
				return err
			}
			w, closeOutput, err := openOutput(output, cmd.OutOrStdout())
			if err != nil {
				return errors.Join(err, store.Close())
			}
			n, err := exportSessions(cmd.Context(), store, w)
			err = errors.Join(err, closeOutput())
			fmt.Fprintf(cmd.ErrOrStderr(), "%d sessions exported\n", n)
			return errors.Join(err, store.Close())
		},
	}
	bindDataDir(cmd, &s)
	cmd.Flags().StringVarP(&output, "output", "o", "",
		"new `file` to write to, readable by you alone; default standard output")
	return cmd
}

// openOutput creates the file at path, which must not exist. If path is "", it
// returns stdout. The function that it returns writes the file to the disk and
// closes it.
func openOutput(path string, stdout io.Writer) (w io.Writer, closeOutput func() error, err error) {
	if path == "" {
		return stdout, func() error { return nil }, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return file, func() error { return errors.Join(file.Sync(), file.Close()) }, nil
}

// exportSessions writes all records, one a line, in the order of their keys. It
// leaves out records that cannot be loaded, and returns an error for them.
func exportSessions(ctx context.Context, store persist.Store, w io.Writer) (exported int, err error) {
	var keys []string
	for key, err := range store.Keys(ctx) {
		if err != nil {
			return 0, err
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var damaged error
	out := bufio.NewWriter(w)
	for i, key := range keys {
		if ctx.Err() != nil {
			return exported, errors.Join(fmt.Errorf("%w; %d sessions are missing", errInterrupted, len(keys)-i), out.Flush(), damaged)
		}
		line, err := exportedLine(ctx, store, key)
		if err != nil {
			damaged = errors.Join(damaged, fmt.Errorf("session %s is left out: %w", key, err))
			continue
		}
		if _, err := out.Write(line); err != nil {
			return exported, err
		}
		exported++
	}
	return exported, errors.Join(out.Flush(), damaged)
}

// exportedLine returns the record of key as one line.
func exportedLine(ctx context.Context, store persist.Store, key string) ([]byte, error) {
	value, ok, err := store.Get(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errors.New("its record is missing")
	}
	if err := session.CheckRecord(key, value); err != nil {
		return nil, err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, value); err != nil {
		return nil, err
	}
	return append(admin.VisibleJSON(line.Bytes()), '\n'), nil // its output may be a terminal
}
