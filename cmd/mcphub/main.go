// Command mcphub is one MCP endpoint in front of many MCP servers. The package
// holds the commands and connects the packages of the hub.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/config"
)

// version is set by the linker for releases.
var version = "" //nolint:gochecknoglobals // -X can set nothing else

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes the command line and returns the exit status: 0 for success, 1
// for a failure, 2 for wrong usage or configuration.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, endSignals()...)
	defer stop()
	// The first signal ends ctx. Restore the default handling then, so that a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	root := newRootCommand() //nolint:contextcheck // commands get ctx from ExecuteContext
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := execute(ctx, root, args)
	if err == nil {
		return 0
	}
	text := fmt.Sprintln("mcphub:", admin.VisibleLines(err.Error()))
	if errors.Is(err, admin.ErrNoHub) {
		text += fmt.Sprintln("mcphub: is --admin right? It names the hub's admin listener, by default " + config.Default().Admin.Listen)
	}
	printWithin(stderr, outputTime, text)
	if isUsageError(err) {
		return 2
	}
	return 1
}

// outputTime is the time in which the banner, or the reason of a failure, must be written: nobody may read it.
const outputTime = time.Second

// printWithin writes text to w, but does not wait for a reader for longer than limit.
func printWithin(w io.Writer, limit time.Duration, text string) {
	written := make(chan struct{})
	go func() { // ends with the process if nobody reads
		defer close(written)
		_, _ = io.WriteString(w, text)
	}()
	select {
	case <-written:
	case <-time.After(limit):
	}
}

// execute runs the command that args name. One that a signal does not end is left
// behind, unless it has a time limit of its own.
func execute(ctx context.Context, root *cobra.Command, args []string) error {
	command := func() error { return root.ExecuteContext(ctx) }
	if cmd, _, err := root.Find(args); err == nil {
		if _, own := cmd.Annotations[endsByItself]; own {
			return command()
		}
	}
	return bounded(ctx, command)
}

// usageError is a mistake in the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// isUsageError reports whether err is a usageError or one of cobra's errors for
// unknown commands and arguments, which have no type.
func isUsageError(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok || strings.HasPrefix(err.Error(), "unknown command") || strings.Contains(err.Error(), "arg(s), received") ||
		strings.Contains(err.Error(), "arg(s), only received")
}

// needsSubcommand is the RunE of commands that only have subcommands.
func needsSubcommand(cmd *cobra.Command, _ []string) error {
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	return usageError{fmt.Errorf("%s needs one of: %s", cmd.CommandPath(), strings.Join(names, ", "))}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mcphub",
		Short: "One MCP endpoint in front of many MCP servers",
		Long: `mcphub is one MCP endpoint in front of many MCP servers. Its sessions survive
restarts and crashes, and every message can be followed in logs, metrics and
traces.`,
		Example: `  mcphub serve --config mcphub.yaml
  mcphub config check --config mcphub.yaml`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.Version = buildVersion() // adds --version
	root.SetVersionTemplate("mcphub {{.Version}}\n")
	root.AddCommand(newServeCommand(), newSessionsCommand(), newServersCommand(), newLogLevelCommand(), newConfigCommand(),
		newDemoCommand(buildVersion()), newVersionCommand())
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "mcphub", buildVersion())
			return err
		},
	}
}

// buildVersion returns the version of this binary: that which the linker set,
// else that of the module or of the checkout it was built from, else dev.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" { // a build without the data of a checkout
		return "dev"
	}
	return info.Main.Version
}
