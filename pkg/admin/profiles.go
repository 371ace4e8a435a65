package admin

import (
	"context"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"
)

const (
	maxProfile     = 60               // seconds for which a profile or trace may be taken
	usualProfile   = 30               // seconds of a processor profile without ?seconds=, as in net/http/pprof
	profileWrite   = 10 * time.Second // to send a profile
	profileWait    = 10 * time.Second // for the end of a profile that a newer one displaces
	displacedWrite = 5 * time.Second  // to end a displaced one and send what it has: much, where the machine is busy
)

// cpuProfile serves /debug/pprof/profile.
func (a *api) cpuProfile(w http.ResponseWriter, r *http.Request) {
	a.takeProfile(w, r, placeProfile, usualProfile, pprof.Profile)
}

// executionTrace serves /debug/pprof/trace.
func (a *api) executionTrace(w http.ResponseWriter, r *http.Request) {
	a.takeProfile(w, r, placeTrace, 1, pprof.Trace)
}

// namedProfile serves /debug/pprof/ and the profiles below it. With ?seconds= such a profile is what was added
// meanwhile.
func (a *api) namedProfile(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("seconds") == "" {
		pprof.Index(w, r)
		return
	}
	a.takeProfile(w, r, placeDelta, 1, pprof.Index)
}

// takeProfile serves a profile that takes some time. A client that asks for more than maxProfile gets that, and one that
// is displaced gets what there is.
func (a *api) takeProfile(w http.ResponseWriter, r *http.Request, kind string, usual int, serve http.HandlerFunc) {
	p := a.places[kind].enter(r)
	defer a.places[kind].leave(p)
	if !p.await(profileWait) {
		a.writeBusy(w, r, "the profile that is being taken does not end; try again")
		return
	}
	seconds := secondsOf(r, usual)
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(time.Duration(seconds)*time.Second + profileWrite))
	// A reader that stalls must not keep the place.
	shortened := make(chan struct{})
	stop := context.AfterFunc(p.ctx, func() {
		defer close(shortened)
		_ = control.SetWriteDeadline(time.Now().Add(displacedWrite))
	})
	defer func() {
		if !stop() {
			<-shortened // a deadline that is set later would be that of the next request over this connection
		}
	}()
	r = r.Clone(p.ctx)
	query := r.URL.Query()
	query.Set("seconds", strconv.Itoa(seconds))
	r.URL.RawQuery = query.Encode()
	serve(w, r)
}

// secondsOf returns the time for which a profile is to be taken.
func secondsOf(r *http.Request, usual int) int {
	seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64)
	if err != nil || !(seconds > 0) {
		return usual
	}
	return int(min(max(seconds, 1), maxProfile))
}
