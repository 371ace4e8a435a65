package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mcphub-go/mcphub/test/peers"
)

// driverVariable makes the test program the driver of the client suites.
const driverVariable = "MCPHUB_TEST_DRIVER"

// driver is the program that the client suites start as the client under test. It
// runs a hub whose only server is the mock of the suite, and a real client in front
// of the hub. The arguments are the two programs, the two addresses of the hub, a
// directory for its files and, added by the suite, the URL of the mock. The log of
// the hub stays in the directory as hub.log. The exit status is that of the client.
func driver(args []string) int {
	if len(args) != 6 {
		fmt.Fprintln(os.Stderr, "driver: want HUB CLIENT LISTEN ADMIN DIR URL, got", args)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	// The suite gives up after 30 s, with a less exact message.
	ctx, cancel := context.WithTimeoutCause(ctx, 25*time.Second, errors.New("25 s are over"))
	defer cancel()
	status, err := drive(ctx, args[0], args[1], args[2], args[3], args[4], args[5])
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
	}
	return status
}

func drive(ctx context.Context, hub, client, listen, admin, dir, url string) (status int, err error) {
	stop, err := driveHub(ctx, hub, listen, admin, dir, url)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	cmd := exec.CommandContext(ctx, client, "http://"+listen+"/mcp")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.WaitDelay = time.Second
	switch err := cmd.Run(); {
	case ctx.Err() != nil:
		return 1, fmt.Errorf("the client did not end: %w", context.Cause(ctx))
	case cmd.ProcessState == nil:
		return 1, err
	default:
		return cmd.ProcessState.ExitCode(), nil
	}
}

// driveHub starts a hub and waits until it is ready. The caller ends it with stop.
func driveHub(ctx context.Context, hub, listen, admin, dir, url string) (stop func() error, err error) {
	config := filepath.Join(dir, "mcphub.yaml")
	if err := os.WriteFile(config, []byte(peers.BareConfig(url)), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "hub.log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(hub, "serve", "--config", config, "--listen", listen, "--admin-listen", admin,
		"--data-dir", filepath.Join(dir, "data"), "--log-format", "json", "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			return errors.Join(err, log.Close())
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			return errors.Join(errors.New("the hub did not end within 10 s"), <-ended, log.Close())
		}
	}
	if err := ready(ctx, "http://"+admin+"/readyz", ended); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// ready waits until the URL answers 200 OK.
func ready(ctx context.Context, url string, ended chan error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if response, err := http.Get(url); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-ended:
			ended <- err // stop waits for the end, too
			return errors.New("the hub ended; see hub.log")
		case <-ctx.Done():
			return fmt.Errorf("the hub is not ready: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}
