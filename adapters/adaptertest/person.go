package adaptertest

import (
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// A Person is at a browser, and logs in at the built-in provider.
type Person struct {
	Name, Password string
	Decision       string // of the consent: allow or refuse
}

var (
	formPattern  = regexp.MustCompile(`(?s)<form method="post" action="([^"]+)">(.*?)</form>`)
	inputPattern = regexp.MustCompile(`<input [^>]*name="([^"]+)"(?:[^>]* value="([^"]*)")?`)
)

// Visit opens a page, fills in the forms that come, and returns the last page.
func (p Person) Visit(ctx context.Context, page string) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	at, err := url.Parse(page)
	if err != nil {
		return "", err
	}
	var form url.Values
	for range 6 { // pages: more is going in circles
		method := http.MethodGet
		if form != nil {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(ctx, method, at.String(), strings.NewReader(form.Encode()))
		if err != nil {
			return "", err
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", at.Scheme+"://"+at.Host)
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return "", err
		}
		next := formPattern.FindStringSubmatch(string(text))
		if next == nil {
			return string(text), nil
		}
		if at, err = resp.Request.URL.Parse(html.UnescapeString(next[1])); err != nil {
			return "", err
		}
		form = url.Values{"decision": {p.Decision}}
		for _, input := range inputPattern.FindAllStringSubmatch(next[2], -1) {
			form.Set(html.UnescapeString(input[1]), html.UnescapeString(input[2]))
		}
		if form.Has("username") {
			form.Set("username", p.Name)
			form.Set("password", p.Password)
		}
	}
	return "", errors.New("the pages go in circles")
}
