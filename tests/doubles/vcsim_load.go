// A sample of 0 is a sample: vcsim (0.24) leaves it out of what it tells, vSphere does not.
package main

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
)

var (
	query = regexp.MustCompile(`<(?:\w+:)?QueryPerf[ >]`)
	empty = regexp.MustCompile(`(PerfMetricIntSeries"><id><counterId>\d+</counterId><instance>[^<]*</instance></id>)</value>`)
)

// samples answers for QueryPerf, and tells whether it was that.
func samples(inner http.Handler, w http.ResponseWriter, r *http.Request, body []byte) bool {
	if !query.Match(body) {
		return false
	}
	heard := httptest.NewRecorder()
	inner.ServeHTTP(heard, r)
	for name, values := range heard.Header() {
		w.Header()[name] = values
	}
	told := empty.ReplaceAll(heard.Body.Bytes(), []byte(`$1<value>0</value></value>`))
	w.Header().Set("Content-Length", strconv.Itoa(len(told)))
	w.WriteHeader(heard.Code)
	_, _ = w.Write(told)
	return true
}
