package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/config"
)

// adminAddress is the flag --admin of the commands that call a running hub.
type adminAddress struct{ flag string }

func (a *adminAddress) bind(flags *pflag.FlagSet) {
	flags.StringVar(&a.flag, "admin", "",
		"`address` of the hub's admin listener (env MCPHUB_ADMIN_LISTEN; default "+config.Default().Admin.Listen+")")
}

// client returns a client of the hub at the address.
func (a *adminAddress) client() (*admin.Client, error) {
	address := cmp.Or(a.flag, os.Getenv("MCPHUB_ADMIN_LISTEN"), config.Default().Admin.Listen)
	if !strings.Contains(address, "://") {
		address = "http://" + reachable(address)
	}
	c, err := admin.NewClient(address, nil)
	if err != nil {
		return nil, usageError{fmt.Errorf("--admin: %w", err)}
	}
	return c, nil
}
