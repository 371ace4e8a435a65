// Command nightly runs what is too slow for continuous integration, one part after
// the other, each with a time budget. It prints a table of results, and fails if a
// part failed or overran. A part that overruns is ended with everything it started.
//
//	nightly [-out DIR] [PART...]    all parts, or those that are named
//
// make nightly builds and runs it. The parts and their budgets are in parts.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	out := flag.String("out", filepath.Join("out", "nightly"), "directory for the logs of the parts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := night(ctx, parts(), flag.Args(), *out, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nightly:", err)
		os.Exit(1)
	}
}

// night runs the named ones of all parts, or all if none is named.
func night(ctx context.Context, all []part, names []string, out string, w io.Writer) error {
	chosen, err := choose(all, names)
	if err != nil {
		return err
	}
	if err := adoptOrphans(); err != nil {
		return fmt.Errorf("making this process the parent of what the parts leave behind: %w", err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("making the directory for the logs: %w", err)
	}
	var results []result
	for _, p := range chosen {
		fmt.Fprintf(w, "%s: %s at most; log in %s\n", p.name, p.budget, p.log(out))
		r := p.run(ctx, out)
		results = append(results, r)
		fmt.Fprintf(w, "%s: %s after %s\n", p.name, r.verdict, r.took.Round(time.Second))
		if !r.good() {
			fmt.Fprintf(w, "the last lines of its log:\n%s\n", lastLines(p.log(out), 40))
		}
		if ctx.Err() != nil {
			break
		}
	}
	printTable(w, results, chosen[len(results):])
	bad := slices.ContainsFunc(results, func(r result) bool { return !r.good() })
	if bad || len(results) < len(chosen) {
		return fmt.Errorf("not everything passed; the logs are in %s", out)
	}
	return nil
}

func choose(all []part, names []string) (chosen []part, err error) {
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			var known []string
			for _, p := range all {
				known = append(known, p.name)
			}
			return nil, fmt.Errorf("there is no part %q; the parts are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func printTable(w io.Writer, results []result, missing []part) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nPART\tRESULT\tTOOK\tBUDGET")
	var total time.Duration
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.part.name, r.verdict, r.took.Round(time.Second), r.part.budget)
		total += r.took
	}
	for _, p := range missing {
		fmt.Fprintf(t, "%s\tnot run\t\t%s\n", p.name, p.budget)
	}
	fmt.Fprintf(t, "all\t\t%s\t\n", total.Round(time.Second))
	_ = t.Flush()
}

// lastLines returns the last lines of a file.
func lastLines(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
