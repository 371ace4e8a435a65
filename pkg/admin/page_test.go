package admin_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/mcphub-go/mcphub/pkg/admin"
	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

func TestPageEscapesTextOfClientsAndServers(t *testing.T) {
	r := start(t)
	for _, text := range []string{payload, `</td></table><h1>x`, `{{.Version}}`, `javascript:alert(1)`, "a\u202eb",
		`" onmouseover="alert(1)`, "<!--", "\x00"} {
		r.session(session.Session{ClientName: text, ClientVersion: text, ProtocolVersion: text})
	}
	p := r.do(http.MethodGet, "/")
	for _, bad := range []string{"<script", "<img", "<h1>x", "<!--", `" onmouseover="`} {
		if strings.Contains(p.body, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, good := range []string{"&lt;script&gt;alert(1)", "{{.Version}}", "could not be started", "http://127.0.0.1:1/mcp",
		"<small>v1</small>"} {
		if !strings.Contains(p.body, good) {
			t.Errorf("the page lacks %q", good)
		}
	}
	if n := strings.Count(p.body, "<tr"); n != 2+8+3 { // heads, sessions, servers and why one is down
		t.Errorf("the page has %d rows", n)
	}
}

func TestPageWorksWithItsContentSecurityPolicy(t *testing.T) {
	r := start(t)
	r.session(session.Session{ClientName: "probe"})
	p := r.do(http.MethodGet, "/")
	if policy := p.header.Get("Content-Security-Policy"); policy != "default-src 'none'; style-src 'self'; frame-ancestors 'none'" {
		t.Errorf("the policy is %q", policy)
	}
	for _, inline := range []string{`(?i)<style`, `(?i)<script`, `(?i)<[^>]*\sstyle=`, `(?i)<[^>]*\son[a-z]+=`,
		`(?i)<[^>]*javascript:`, `(?i)<iframe`, `(?i)(src|href)="(https?:)?//`} {
		if found := regexp.MustCompile(inline).FindString(p.body); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
	for _, link := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(p.body, -1) {
		if p := r.do(http.MethodGet, link[1]); p.status != http.StatusOK {
			t.Errorf("the link %s leads to %d", link[1], p.status)
		}
	}
	if css := r.do(http.MethodGet, "/style.css").body; strings.Contains(css, "url(") || strings.Contains(css, "@import") {
		t.Error("the style sheet loads something")
	}
}

func TestPageIsLimitedToSomeSessions(t *testing.T) {
	r := start(t)
	for range 250 {
		r.session(session.Session{ClientName: "many"})
	}
	p := r.do(http.MethodGet, "/")
	if n := strings.Count(p.body, "<td>many"); n != 200 {
		t.Errorf("%d sessions are on the page", n)
	}
	if !strings.Contains(p.body, "<small>250") {
		t.Error("the page does not say how many there are")
	}
}

func TestWarningsOfAServerAreInTheAPIAndOnThePageEscaped(t *testing.T) {
	r := start(t)
	r.pool.Server("up").Warn(upstream.WarnHidden, []upstream.Warning{{Subject: payload, Message: "taken by " + payload}})
	if page := r.do(http.MethodGet, "/").body; !strings.Contains(page, "hidden <code>&lt;script&gt;") || strings.Contains(page, "<script") {
		t.Errorf("the page is %s", page)
	}
	var got admin.Upstream
	r.get("/api/v1/upstreams/up", &got)
	if len(got.Warnings) != 1 || got.Warnings[0].Kind != upstream.WarnHidden || got.Warnings[0].Message != "taken by "+payload ||
		got.Warnings[0].Since.IsZero() {
		t.Errorf("the warnings are %+v", got.Warnings)
	}
}
