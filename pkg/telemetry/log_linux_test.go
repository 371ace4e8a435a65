package telemetry

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns both ends of a pseudo terminal: what a program writes to tty
// is read from screen.
func terminal(t *testing.T) (tty, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, screen
}

func TestAutoIsTintOnATerminalWithColourUnlessNoColorIsSet(t *testing.T) {
	for _, noColor := range []string{"", "1"} {
		t.Setenv("NO_COLOR", noColor)
		tty, screen := terminal(t)
		tel, _ := start(t, Config{Stderr: tty})
		tel.Logger().Info("hello")
		line, err := bufio.NewReader(screen).ReadString('\n')
		if err != nil || strings.Contains(line, "\x1b[") != (noColor == "") || !strings.Contains(line, "hello") ||
			strings.HasPrefix(line, "{") {
			t.Errorf("NO_COLOR=%q: %q, %v", noColor, line, err)
		}
	}
}
