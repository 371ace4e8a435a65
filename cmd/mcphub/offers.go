package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/mcphub-go/mcphub/pkg/catalog"
	"github.com/mcphub-go/mcphub/pkg/config"
	"github.com/mcphub-go/mcphub/pkg/instrument"
	"github.com/mcphub-go/mcphub/pkg/upstream"
)

// offers takes what servers offer to the catalog, and what is wrong with it to the warnings about the servers.
type offers struct {
	catalog     *catalog.Catalog
	transparent bool            // clients get the lists as the server sends them, whatever the catalog makes of them
	dropInvalid map[string]bool // by server

	mu sync.Mutex // held while warnings are made known, so that they are those of the newest snapshot
}

func newOffers(cfg config.Config, servers []string, transparent bool) *offers {
	o := &offers{catalog: catalog.New(catalog.Naming(cfg.Naming), servers), transparent: transparent,
		dropInvalid: map[string]bool{}}
	for _, s := range cfg.Servers {
		o.dropInvalid[s.Name] = s.OnInvalidTool == "drop" && !transparent
	}
	return o
}

// replace makes inv what server offers, and returns the kinds of lists that have changed, or may have.
func (o *offers) replace(server string, inv upstream.Inventory) []catalog.Kind {
	offer := offerOf(inv)
	offer.DropInvalid = o.dropInvalid[server]
	return append(o.catalog.Replace(server, offer), announced(inv)...)
}

// warn makes known what is wrong with the offers of all servers: what one offers may hide what another one does.
func (o *offers) warn(servers []*upstream.Server) {
	o.mu.Lock()
	defer o.mu.Unlock()
	byKind := map[upstream.WarningKind]map[string][]upstream.Warning{upstream.WarnHidden: {}, upstream.WarnItem: {},
		upstream.WarnInvalidTool: {}, upstream.WarnInvalidItem: {}}
	add := func(kind upstream.WarningKind, p catalog.Problem, text string) {
		subject, text := describe(p, text)
		byKind[kind][p.Server] = append(byKind[kind][p.Server], upstream.Warning{Subject: subject, Message: text})
	}
	snapshot := o.catalog.Snapshot()
	for _, p := range snapshot.Problems() {
		if o.transparent {
			break
		}
		kind := upstream.WarnItem
		if p.Hidden {
			kind = upstream.WarnHidden
		}
		add(kind, p, p.Text)
	}
	for _, p := range snapshot.Invalid() {
		switch {
		case p.Kind != catalog.Tools:
			add(upstream.WarnInvalidItem, p, "passed on, but some clients refuse a list with such an item: "+p.Text)
		case o.dropInvalid[p.Server]:
			add(upstream.WarnInvalidTool, p, "left out: "+p.Text)
		default:
			add(upstream.WarnInvalidTool, p, "passed on, but some clients refuse a list with such a tool: "+p.Text)
		}
	}
	for kind, byServer := range byKind {
		for _, s := range servers {
			s.Warn(kind, byServer[s.Name()])
		}
	}
}

// describe returns what p is about and its text. The name of a resource is its URI, in which there may be secrets.
func describe(p catalog.Problem, text string) (subject, redacted string) {
	what := [...]string{"tool", "prompt", "resource", "resource template"}[p.Kind]
	name := p.Name
	switch {
	case name == "":
		return fmt.Sprintf("%s %d of the list", what, p.Index), text
	case p.Kind == catalog.Resources || p.Kind == catalog.Templates:
		name = instrument.RedactedURI(p.Name)
		text = strings.ReplaceAll(text, strconv.Quote(p.Name), strconv.Quote(name))
	}
	return what + " " + name, text
}

// offerOf is what a server offers, for the catalog.
func offerOf(inv upstream.Inventory) catalog.Inventory {
	return catalog.Inventory{Tools: inv.Tools, Prompts: inv.Prompts, Resources: inv.Resources, Templates: inv.Templates,
		Hints: [4]catalog.Hint{
			catalog.Tools: catalog.Hint(inv.Hints.Tools), catalog.Prompts: catalog.Hint(inv.Hints.Prompts),
			catalog.Resources: catalog.Hint(inv.Hints.Resources), catalog.Templates: catalog.Hint(inv.Hints.Templates),
		}}
}

// announced are the lists that a server says have changed. Clients are told so
// even if nothing in them has: the server may know better.
func announced(inv upstream.Inventory) []catalog.Kind {
	var kinds []catalog.Kind
	for _, method := range inv.Changed {
		switch method {
		case "notifications/tools/list_changed":
			kinds = append(kinds, catalog.Tools)
		case "notifications/prompts/list_changed":
			kinds = append(kinds, catalog.Prompts)
		case "notifications/resources/list_changed":
			kinds = append(kinds, catalog.Resources)
		}
	}
	return kinds
}
