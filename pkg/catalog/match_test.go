package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/mcphub-go/mcphub/pkg/catalog"
)

func TestTemplatesMatchTheirExpansions(t *testing.T) {
	for _, tt := range []struct {
		template, uri string
		want          bool
	}{
		{"users://{id}", "users://42", true},
		{"users://{id}", "users://a%2Fb", true},
		{"users://{id}", "users://a/b", false},
		{"users://{id}", "usersX//42", false},
		{"users://{id}/posts", "users://42/posts", true},
		{"users://{id}/posts", "users://42/posts/1", false},
		{"file://{+path}", "file:///a/b.txt", true},
		{"file://{+path}", "file:///a b", false},
		{"repo://{owner}/{repo}{/path*}", "repo://o/r/a/b/c", true},
		{"repo://{owner}/{repo}{/path*}", "repo://o/r", true},
		{"search://all{?q}", "search://all?q=x", true},
		{"search://all{?q}", "search://all", true},
		{"search://all{?q}", "search://allx", false},
		{"search://all{?q,limit}", "search://all?q=x&limit=3", true},
		{"note://é{#part}", "note://é#top", true},
		{"fixed://uri", "fixed://uri", true},
		{"fixed://uri", "fixed://uri2", false},
		{"a.b://{x}", "aXb://1", false},
	} {
		c := catalog.New(catalog.Prefix, nil)
		c.Replace("s", catalog.Inventory{Templates: named("uriTemplate", tt.template)})
		got, ok := c.Snapshot().Resource(tt.uri)
		if ok != tt.want || ok && got != (catalog.Target{Server: "s", Name: tt.uri}) {
			t.Errorf("%s, %s: got %v, %v", tt.template, tt.uri, got, ok)
		}
	}
}

func TestMostLiteralTemplateWins(t *testing.T) {
	c := catalog.New(catalog.Prefix, []string{"any", "files", "files2", "logs"})
	c.Replace("logs", catalog.Inventory{Templates: named("uriTemplate", "file:///logs/{name}"), Resources: named("uri", "file:///logs")})
	c.Replace("files2", catalog.Inventory{Templates: named("uriTemplate", "file:///{name}")})
	c.Replace("files", catalog.Inventory{Templates: named("uriTemplate", "file:///{+path}")})
	c.Replace("any", catalog.Inventory{Templates: named("uriTemplate", "{+uri}")})
	for uri, want := range map[string]string{
		"file:///logs":     "logs", // an exact resource comes before any template
		"file:///logs/x":   "logs",
		"file:///logs/x/y": "files",
		"file:///x":        "files", // the same prefix as files2, but first in order
		"http://x":         "any",
	} {
		if got, ok := c.Snapshot().Resource(uri); !ok || got != (catalog.Target{Server: want, Name: uri}) {
			t.Errorf("%s: got %v, %v, want %s", uri, got, ok, want)
		}
	}
}

func TestInvalidTemplateIsListedButMatchesNothing(t *testing.T) {
	for _, template := range []string{
		"x://{", "x://{a b}", "x://{=a}", "x://%zz", "x://{a:0}",
		"x://" + strings.Repeat("y", 1024),
		"x://{" + strings.Repeat("a,", 40) + "a}",
	} {
		c := catalog.New(catalog.Prefix, nil)
		c.Replace("s", catalog.Inventory{Templates: named("uriTemplate", template, "x://{ok}")})
		s := c.Snapshot()
		if _, ok := s.Template(template); !ok || len(s.Items(catalog.Templates)) != 2 {
			t.Errorf("%q is not listed", template)
		}
		if _, ok := s.Resource("x://1"); !ok {
			t.Errorf("%q stops the other template from matching", template)
		}
		if p := s.Problems(); len(p) != 1 || p[0].Name != template || !strings.HasPrefix(p[0].Text, "listed, but no URI matches it: ") {
			t.Errorf("%q: problems %q", template, problems(s))
		}
	}
}

func TestMatchingIsCheapForHostileTemplates(t *testing.T) {
	vars := strings.Repeat("a,", 30) + "a"
	c := catalog.New(catalog.Prefix, nil)
	c.Replace("s", catalog.Inventory{Templates: named("uriTemplate",
		"x:{"+vars+"}!", "x:{+"+vars+"}é", "x:{?"+vars+"}é", "x:{a:9999}é", "x:"+strings.Repeat("{+a*}", 30)+"é")})
	start := time.Now()
	for _, uri := range []string{"x:" + strings.Repeat("a", 8000), "x:" + strings.Repeat(",", 8000), "x:" + strings.Repeat("a", 1<<20)} {
		if got, ok := c.Snapshot().Resource(uri); ok {
			t.Errorf("matched %v", got.Server)
		}
	}
	// It takes milliseconds each; uritemplate's Match would need seconds, see pattern.
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
