package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// run prints what `podman run` is told to run a service of the compose file, one argument a line. A service that has lost
// one of its walls is an error, and so is whatever this does not know how to say: nothing is left out in silence.
func run(path, name string) error {
	project, err := load(path)
	if err != nil {
		return err
	}
	service, err := project.GetService(name)
	if err != nil {
		return err
	}
	for what, there := range map[string]bool{
		"read_only":                        service.ReadOnly,
		"cap_drop: [ALL]":                  slices.Equal(service.CapDrop, []string{"ALL"}) && len(service.CapAdd) == 0,
		"security_opt: no-new-privileges":  slices.Contains(service.SecurityOpt, "no-new-privileges:true"),
		"tmpfs: [/tmp]":                    slices.Contains(service.Tmpfs, "/tmp"),
		"stop_grace_period":                service.StopGracePeriod != nil,
		"no user but the image's":          service.User == "",
		"no stop_signal but the image's":   service.StopSignal == "",
		"no healthcheck but the image's":   service.HealthCheck == nil,
		"no command but the image's":       service.Command == nil && service.Entrypoint == nil,
		"no network but the project's own": len(service.Networks) == 1 && service.Networks["default"] == nil,
	} {
		if !there {
			return fmt.Errorf("%s: %s is expected to have: %s", path, name, what)
		}
	}
	// Not read-only but for three directories, as podman has it, but wholly, as Docker has it.
	words := []string{"--name", name, "--read-only", "--read-only-tmpfs=false"}
	for _, capability := range service.CapDrop {
		words = append(words, "--cap-drop", capability)
	}
	for _, option := range service.SecurityOpt {
		words = append(words, "--security-opt", option)
	}
	for _, place := range service.Tmpfs {
		words = append(words, "--tmpfs", place)
	}
	for limit, value := range service.Ulimits {
		if value.Single == 0 {
			return fmt.Errorf("%s: the limit %s of %s is no single number", path, limit, name)
		}
		words = append(words, "--ulimit", fmt.Sprintf("%s=%d:%d", limit, value.Single, value.Single))
	}
	for _, port := range service.Ports {
		words = append(words, "--publish", fmt.Sprintf("%s:%s:%d/%s", port.HostIP, port.Published, port.Target, port.Protocol))
	}
	for _, volume := range service.Volumes {
		source := volume.Source
		if volume.Type == types.VolumeTypeVolume {
			source = project.Volumes[source].Name
		}
		words = append(words, "--volume", mount(source, volume.Target, volume.ReadOnly))
	}
	for _, secret := range service.Secrets {
		target := secret.Target
		if target == "" {
			target = secret.Source
		}
		if !strings.HasPrefix(target, "/") {
			target = "/run/secrets/" + target
		}
		words = append(words, "--volume", mount(project.Secrets[secret.Source].File, target, true))
	}
	words = append(words, "--stop-timeout", fmt.Sprintf("%.0f", time.Duration(*service.StopGracePeriod).Seconds()))
	words = append(words, "--restart", service.Restart)

	// What is said above, and what concerns the other services.
	rest := service
	rest.ReadOnly, rest.CapDrop, rest.SecurityOpt, rest.Tmpfs, rest.Ulimits = false, nil, nil, nil, nil
	rest.Ports, rest.Volumes, rest.Secrets, rest.StopGracePeriod, rest.Restart = nil, nil, nil, nil, ""
	rest.Networks, rest.DependsOn, rest.Build, rest.Image = nil, nil, nil, ""
	unsaid, err := json.Marshal(rest)
	if err != nil {
		return err
	}
	if !bytes.Equal(unsaid, []byte(`{"command":null,"entrypoint":null}`)) {
		return fmt.Errorf("%s: what %s has besides is not known here: %s", path, name, unsaid)
	}
	for _, word := range append(words, service.Image) {
		fmt.Println(word)
	}
	return nil
}

func mount(source, target string, readOnly bool) string {
	if readOnly {
		return source + ":" + target + ":ro"
	}
	return source + ":" + target
}

// pod prints what `podman kube play` takes instead of the StatefulSet, which it does not know: the pod and its claim, as
// its controller would make them of the templates; with the ConfigMap as it stands, and the Secret with values (NAME=VALUE)
// in the place of its examples. The servers' names in the config are given the address IP.
func pod(path, secret, ip string, values []string) error {
	all, err := read(path, secret)
	if err != nil {
		return err
	}
	if len(all.sets) != 1 || len(all.maps) != 1 || len(all.secrets) != 1 {
		return fmt.Errorf("%s, %s: one StatefulSet, one ConfigMap and one Secret are expected", path, secret)
	}
	set, settings, secrets := all.sets[0], all.maps["understudy"], all.secrets["understudy"]
	if err := fill(&secrets, values); err != nil {
		return err
	}
	name := set.Name + "-0"
	one := core.Pod{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: set.Spec.Template.ObjectMeta,
		Spec:       set.Spec.Template.Spec,
	}
	one.Name = name
	for _, volume := range one.Spec.Volumes {
		if volume.Secret != nil && volume.Secret.Optional == nil {
			volume.Secret.Optional = new(bool) // the same, but podman 4.3 breaks where it is not said
		}
	}
	hosts, err := servers(settings.Data["understudy.toml"])
	if err != nil {
		return err
	}
	one.Spec.HostAliases = append(one.Spec.HostAliases, core.HostAlias{IP: ip, Hostnames: hosts})
	documents := []any{settings, secrets}
	for _, claim := range set.Spec.VolumeClaimTemplates {
		volume := core.Volume{Name: claim.Name}
		claim.TypeMeta = meta.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}
		claim.Name += "-" + name
		volume.PersistentVolumeClaim = &core.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}
		one.Spec.Volumes = append(one.Spec.Volumes, volume)
		documents = append(documents, claim)
	}
	for _, document := range append(documents, one) {
		text, err := yaml.Marshal(document)
		if err != nil {
			return err
		}
		fmt.Printf("---\n%s", text)
	}
	return nil
}

// fill gives each of the Secret's entries its value, as an API server would keep it.
func fill(secret *core.Secret, values []string) error {
	secret.Data = map[string][]byte{}
	for _, value := range values {
		name, value, _ := strings.Cut(value, "=")
		if _, ok := secret.StringData[name]; !ok {
			return fmt.Errorf("the Secret has no %s", name)
		}
		secret.Data[name] = []byte(value)
	}
	if len(secret.Data) != len(secret.StringData) {
		return fmt.Errorf("a value is missing: the Secret has %d entries", len(secret.StringData))
	}
	secret.StringData = nil
	return nil
}

// servers are the hosts that the config's addresses name, but for its own.
func servers(config string) ([]string, error) {
	var hosts []string
	for _, line := range strings.Split(config, "\n") {
		key, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(key) != "address" {
			continue
		}
		value, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(value), `"`), `"`)
		host, _, err := net.SplitHostPort(value)
		if err != nil {
			return nil, err
		}
		if net.ParseIP(host) == nil && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("the config names no server")
	}
	return hosts, nil
}

// probes prints what the kubelet would ask of the pod: name, port and path, a line each.
func probes(path string) error {
	all, err := read(path)
	if err != nil {
		return err
	}
	container := all.sets[0].Spec.Template.Spec.Containers[0]
	for _, port := range container.Ports {
		for what, probe := range map[string]*core.Probe{"startup": container.StartupProbe, "readiness": container.ReadinessProbe} {
			if probe.HTTPGet.Port.StrVal == port.Name {
				fmt.Println(what, port.ContainerPort, probe.HTTPGet.Path)
			}
		}
	}
	return nil
}
