package session

import (
	"context"
	"errors"
	"net/url"
	"time"
)

const (
	defaultInterval = 5 * time.Second // RFC 8628 §3.2
	slowDown        = 5 * time.Second // RFC 8628 §3.5
	maxDeviceLife   = time.Hour
)

// Device logs a person in through a browser on any machine (RFC 8628).
func (s *Session) Device(ctx context.Context, opts Options) (Login, error) {
	or(&s.profile.ClientID, defaultClientID)
	is, err := s.discover(ctx)
	if err != nil {
		return Login{}, err
	}
	if is.Device == "" {
		return Login{}, refused("the issuer has no device_authorization_endpoint: log in without --device; --no-browser prints the page's address")
	}
	form := url.Values{"scope": {s.scopes(is, true)}}
	if s.profile.Audience != "" {
		form.Set("audience", s.profile.Audience)
	}
	var device struct {
		Code     string  `json:"device_code"`
		UserCode string  `json:"user_code"`
		URI      string  `json:"verification_uri"`
		Complete string  `json:"verification_uri_complete"`
		Expires  seconds `json:"expires_in"`
		Interval seconds `json:"interval"`
	}
	begun := s.now()
	if _, err := is.post(ctx, is.Device, credential{id: s.profile.ClientID}, form, &device); err != nil {
		return Login{}, err
	}
	if device.Code == "" || device.UserCode == "" || device.Expires <= 0 {
		return Login{}, refused("the issuer's answer lacks a code or its lifetime")
	}
	if err := checkURL(device.URI); err != nil {
		return Login{}, refused("the issuer's verification_uri %w", err)
	}
	if device.Complete != "" && checkURL(device.Complete) != nil {
		device.Complete = ""
	}
	lasts := min(device.Expires.duration(), maxDeviceLife)
	opts.Show(Prompt{URL: printable(device.URI), Complete: printable(device.Complete), Code: printable(device.UserCode), Lasts: lasts})

	interval := defaultInterval
	if device.Interval > 0 {
		interval = device.Interval.duration()
	}
	for s.now().Add(interval).Before(begun.Add(lasts)) {
		if err := s.sleep(ctx, interval); err != nil {
			return Login{}, err
		}
		l, err := s.redeem(ctx, is, opts, grantDevice, "", url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device.Code},
		})
		if err == nil || ctx.Err() != nil {
			return l, err
		}
		problem, _ := errors.AsType[*oauthError](err)
		switch {
		case problem == nil && errors.Is(err, ErrUnavailable):
			interval *= 2 // RFC 8628 §3.5
		case problem == nil:
			return Login{}, err
		case problem.Code == "authorization_pending":
		case problem.Code == "slow_down":
			interval += slowDown
		case problem.Code == "access_denied":
			return Login{}, refused("it was declined at the issuer")
		case problem.Code == "expired_token":
			return Login{}, refused("the code has expired: log in again for another")
		default:
			return Login{}, err
		}
	}
	return Login{}, refused("nobody gave the code within %v: log in again for another", lasts)
}
