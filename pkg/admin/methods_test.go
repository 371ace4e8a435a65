package admin_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

func TestEveryMethodOfTheAPIIsListedForPages(t *testing.T) {
	var l levels
	r := startWith(t, func(cfg *admin.Config) { cfg.LogLevels, cfg.SetLogLevels = l.list, l.change })
	for method, path := range map[string]string{
		http.MethodGet: "/api/v1/sessions", http.MethodHead: "/api/v1/sessions", http.MethodPost: "/api/v1/upstreams/up/refresh",
		http.MethodPut: "/api/v1/log-levels", http.MethodPatch: "/api/v1/sessions/none/metadata",
		http.MethodDelete: "/api/v1/sessions/none", http.MethodOptions: "/api/v1/sessions",
	} {
		served := r.do(method, path).status != http.StatusMethodNotAllowed
		if served != slices.Contains(admin.Methods(), method) {
			t.Errorf("%s is served: %v; listed are %q", method, served, admin.Methods())
		}
	}
}
