package upstream

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// WarningKind groups the warnings about a server. It is a label of a metric, so each kind is in WarningKinds.
type WarningKind string

// The kinds.
const (
	WarnListFailed  WarningKind = "list_failed"  // a list could not be read; the subject is its method
	WarnListCut     WarningKind = "list_cut"     // a list could not be read to its end; the subject is its method
	WarnHidden      WarningKind = "hidden"       // clients cannot see an item: another one has its name or URI
	WarnItem        WarningKind = "item"         // clients do not get an item, or not as the server offers it
	WarnInvalidTool WarningKind = "invalid_tool" // strict clients refuse a list with this tool
	WarnInvalidItem WarningKind = "invalid_item" // the same of a prompt, a resource or a template
)

// WarningKinds returns all kinds.
func WarningKinds() []WarningKind {
	return []WarningKind{WarnListFailed, WarnListCut, WarnHidden, WarnItem, WarnInvalidTool, WarnInvalidItem}
}

// Warning is something about a server that does not stop it from working, and that somebody should know or mend.
type Warning struct {
	Kind    WarningKind
	Subject string // what it is about, such as a tool or a method; one warning of a kind for each subject
	Message string
	Since   time.Time
}

// The bounds of the warnings of one server. What it says has no bound of its own.
const (
	maxWarnings       = 100 // of one kind that are kept; all are counted
	maxWarningLogs    = 10  // that are logged one by one, of those that come or go at once
	maxWarningSubject = 256 // bytes
	maxWarningMessage = 1024
)

// warnings are the warnings about one server now. Each that comes, changes or goes is logged. They may be used
// concurrently.
type warnings struct {
	log    *slog.Logger
	mask   func(string) string // takes the secrets of the configuration out of a text
	gauges map[WarningKind]prometheus.Gauge

	mu     sync.Mutex
	byKind map[WarningKind]warningList
}

// warningList are the warnings of one kind, ordered by subject.
type warningList struct {
	kept  []Warning
	total int // more than those that are kept
}

func newWarnings(log *slog.Logger, mask func(string) string, gauges map[WarningKind]prometheus.Gauge) *warnings {
	return &warnings{log: log, mask: mask, gauges: gauges, byKind: map[WarningKind]warningList{}}
}

// put adds a warning, or changes the message of the one about the same subject.
func (w *warnings) put(one Warning) {
	w.change(one.Kind, func(kept []Warning) []Warning { return append(without(kept, one.Subject), one) })
}

// set adds a warning because of err, or removes the one about subject if err is nil.
func (w *warnings) set(kind WarningKind, subject string, err error) {
	if err != nil {
		w.put(Warning{Kind: kind, Subject: subject, Message: err.Error()})
		return
	}
	w.remove(kind, subject)
}

// remove removes the warning about subject, if there is one.
func (w *warnings) remove(kind WarningKind, subject string) {
	w.change(kind, func(kept []Warning) []Warning { return without(kept, subject) })
}

func without(kept []Warning, subject string) []Warning {
	return slices.DeleteFunc(slices.Clone(kept), func(one Warning) bool { return one.Subject == subject })
}

// replace makes now the warnings of a kind. A warning that was there keeps its Since.
func (w *warnings) replace(kind WarningKind, now []Warning) {
	w.change(kind, func([]Warning) []Warning { return slices.Clone(now) })
}

// change replaces the warnings of a kind by what edit makes of them.
func (w *warnings) change(kind WarningKind, edit func(kept []Warning) []Warning) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.byKind[kind].kept
	after := warningList{kept: edit(before)}
	for i := range after.kept {
		one := &after.kept[i]
		one.Kind, one.Subject, one.Message = kind, cut(w.mask(one.Subject), maxWarningSubject), cut(w.mask(one.Message), maxWarningMessage)
	}
	slices.SortStableFunc(after.kept, func(a, b Warning) int { return cmp.Compare(a.Subject, b.Subject) })
	after.kept = slices.CompactFunc(after.kept, func(a, b Warning) bool { return a.Subject == b.Subject })
	if after.total = len(after.kept); after.total > maxWarnings {
		after.kept = slices.Clip(after.kept[:maxWarnings])
	}
	old := map[string]Warning{}
	for _, one := range before {
		old[one.Subject] = one
	}
	var come []Warning
	for i := range after.kept {
		one := &after.kept[i]
		known, ok := old[one.Subject]
		if one.Since = known.Since; !ok {
			one.Since = time.Now()
		}
		if known.Message != one.Message {
			come = append(come, *one)
		}
		delete(old, one.Subject)
	}
	w.byKind[kind] = after
	w.gauges[kind].Set(float64(after.total))
	w.logChange(kind, come, old)
}

// logChange logs the warnings that have come or changed, and those that have gone.
func (w *warnings) logChange(kind WarningKind, come []Warning, gone map[string]Warning) {
	for i, one := range come {
		if i == maxWarningLogs {
			w.log.Warn("more warnings about the server; the API has them", "kind", string(kind), "count", len(come)-i)
			break
		}
		w.log.Warn("warning about the server", "kind", string(kind), "subject", one.Subject, "problem", one.Message)
	}
	if len(gone) > maxWarningLogs {
		w.log.Info("warnings about the server are over", "kind", string(kind), "count", len(gone))
		return
	}
	for subject := range gone {
		w.log.Info("a warning about the server is over", "kind", string(kind), "subject", subject)
	}
}

// all returns the warnings, ordered by kind and subject. If there are more of a kind than are kept, its last one says
// how many.
func (w *warnings) all() []Warning {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Warning
	for _, kind := range WarningKinds() {
		list := w.byKind[kind]
		all = append(all, list.kept...)
		if more := list.total - len(list.kept); more > 0 {
			all = append(all, Warning{Kind: kind, Message: fmt.Sprintf("and %d more", more), Since: list.kept[0].Since})
		}
	}
	return all
}

// cut returns text with at most limit bytes, in valid UTF-8.
func cut(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
