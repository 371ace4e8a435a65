package admin

import (
	"bytes"
	_ "embed"
	"html/template"
	"io"
	"net/http"
	"time"

	"github.com/mcphub-go/mcphub/pkg/session"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

//go:embed page.html
var pageHTML string

//go:embed style.css
var styleCSS []byte

// pageTemplate is an html/template because it shows text from clients and
// servers, which must be escaped.
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago":   func(ms int64) string { return time.Since(time.UnixMilli(ms)).Round(time.Second).String() },
	"since": func(t time.Time) string { return time.Since(t).Round(time.Second).String() },
	"until": func(t time.Time) string { return time.Until(t).Round(time.Second).String() },
}).Parse(pageHTML))

// maxRows bounds the number of sessions on the page. The API returns all.
const maxRows = 200

// rows returns the sessions for the page, the number of loaded sessions and the
// number of those that are not loaded yet. Derived sessions come last and only
// fill the rest of the rows, since anybody can make many of them.
func (a *api) rows() (rows []session.Info, count, restoring int) {
	rows, count, restoring = a.cfg.Sessions.List("", maxRows, session.Protocol)
	derived, more, _ := a.cfg.Sessions.List("", maxRows, session.Derived)
	rows = append(rows, derived...)
	return rows[:min(len(rows), maxRows)], count + more, restoring
}

func (a *api) page(w http.ResponseWriter, r *http.Request) {
	rows, count, restoring := a.rows()
	data := struct {
		Version, Endpoint string
		Sessions          []session.Info
		Count, Restoring  int
		Upstreams         []upstream.Status
	}{Version: a.cfg.Version, Endpoint: a.cfg.Endpoint, Sessions: rows, Count: count, Restoring: restoring}
	for _, s := range a.cfg.Pool.Servers() {
		data.Upstreams = append(data.Upstreams, s.Status())
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, data); err != nil {
		a.log.ErrorContext(r.Context(), "page could not be made", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, VisibleLines(b.String()))
}

func (a *api) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(styleCSS)
}
