package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/admin"
)

func TestRefreshAnswersWithTheServerAsItIsThen(t *testing.T) {
	r := start(t)
	u, err := r.api().RefreshUpstream(t.Context(), "up")
	if err != nil || u.Name != "up" || u.Tools != 1 {
		t.Errorf("%+v, %v", u, err)
	}
	if !strings.Contains(r.logs.String(), "read again for an operator") {
		t.Error("it is not logged")
	}
}

func TestRefreshOfAServerThatIsDownOrUnknownSaysSo(t *testing.T) {
	r := start(t)
	for name, want := range map[string]struct {
		status int
		text   string
	}{"down": {http.StatusBadGateway, "could not be started"}, "none": {http.StatusNotFound, "no server of this name"}} {
		p := r.do(http.MethodPost, "/api/v1/upstreams/"+name+"/refresh")
		if p.status != want.status || !strings.Contains(p.body, want.text) {
			t.Errorf("%s: %d %s", name, p.status, p.body)
		}
		if _, err := r.api().RefreshUpstream(t.Context(), name); err == nil || !strings.HasPrefix(err.Error(), "refresh server "+name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerboseReadinessSaysWhichServersAreUpAndStaysOK(t *testing.T) {
	r := start(t)
	var got admin.Readiness
	p := r.get("/readyz?verbose", &got)
	if p.status != http.StatusOK || got.Status != "ready" || len(got.Upstreams) != 2 {
		t.Fatalf("%d %s", p.status, p.body)
	}
	if up, down := got.Upstreams[0], got.Upstreams[1]; up.Name != "up" || up.State != "up" || up.Error != "" || up.Since.IsZero() ||
		down.Name != "down" || down.State != "down" || !strings.Contains(down.Error, "could not be started") {
		t.Errorf("%s", p.body)
	}
	if p := r.do(http.MethodGet, "/readyz"); strings.Contains(p.body, "since") {
		t.Errorf("without ?verbose: %s", p.body)
	}
}
