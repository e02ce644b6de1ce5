// VMware's own simulator of its API (govmomi's vcsim) as one vCenter or one ESXi, for the tests of the vSphere engine.
//
// What vcsim leaves out and the engine needs is added: guests that boot to VMware Tools and take passwords, a guest that does not
// hear a request to shut down, the refusal of that request by a VM without Tools, what a snapshot keeps (vcsim_snapshots.go), and samples of 0
// (vcsim_load.go). Everything else is vcsim's.
//
//	vcsim -listen 127.0.0.1:0 -pem FILE [-esx] [-user NAME]     the password is read from VCSIM_PASSWORD
//
// It prints the address that it listens on, and ends with its standard input.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"io/ioutil"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	running    = "guestToolsRunning"
	notRunning = "guestToolsNotRunning"
	deaf       = "vcsim.deaf"          // an advanced setting: this guest has Tools, and does not listen
	login      = "vcsim.login"         // an advanced setting: what the guest's chpasswd was told last, in base64
	guestUser  = "openidcs"            // who may run programs in guests, with the password of the simulator
	noSystem   = "otherGuest64"        // a VM of this kind has an empty disk, so nothing boots
	address    = "192.0.2."            // of guests that have booted: documentation's own (RFC 5737)
	pause      = 50 * time.Millisecond // between two looks at the VMs
)

var asked = regexp.MustCompile(`<(?:\w+:)?ShutdownGuest[ >].*?<(?:\w+:)?_this[^>]*>([^<]+)<`)

// machines calls do for each VM, alone with it.
func machines(do func(vm *simulator.VirtualMachine)) {
	for _, entity := range simulator.Map.All("VirtualMachine") {
		if vm, ok := entity.(*simulator.VirtualMachine); ok {
			simulator.Map.WithLock(vm, func() {
				if vm.Config != nil && vm.Guest != nil {
					do(vm)
				}
			})
		}
	}
}

func isDeaf(vm *simulator.VirtualMachine) bool {
	for _, option := range vm.Config.ExtraConfig {
		if option.GetOptionValue().Key == deaf {
			return true
		}
	}
	return false
}

// guests boots and ends the systems inside of VMs.
func guests() {
	for range time.Tick(pause) {
		next := 10
		machines(func(vm *simulator.VirtualMachine) {
			next++
			tools := notRunning
			on := vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
			if on && (isDeaf(vm) || vm.Config.GuestId != noSystem) {
				tools = running
			}
			if vm.Guest.ToolsRunningStatus == tools {
				return
			}
			for place := range vm.Guest.Net {
				vm.Guest.Net[place].IpAddress = nil
				if tools == running {
					vm.Guest.Net[place].IpAddress = []string{fmt.Sprintf("%s%d", address, next%240)}
				}
			}
			simulator.Map.Update(vm, []types.PropertyChange{
				{Name: "guest.toolsRunningStatus", Val: tools},
				{Name: "guest.net", Val: vm.Guest.Net},
			})
		})
	}
}

// hears tells of a VM whether it has Tools, and whether its guest listens.
func hears(moid string) (tools bool, listens bool) {
	machines(func(vm *simulator.VirtualMachine) {
		if vm.Self.Value == moid {
			tools = vm.Guest.ToolsRunningStatus == running
			listens = !isDeaf(vm)
		}
	})
	return tools, listens
}

// processes runs programs inside of guests: on this machine, in a folder where "chpasswd" only notes what it is told.
type processes struct {
	mo.GuestProcessManager
	tools string
	ended map[int64]types.GuestProcessInfo
}

// newProcesses takes the place of vcsim's own, which needs containers.
func newProcesses(tools string) {
	operations := simulator.Map.Get(*simulator.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.GuestOperationsManager)
	made := &processes{tools: tools, ended: map[int64]types.GuestProcessInfo{}}
	made.Self = *operations.(*simulator.GuestOperationsManager).ProcessManager
	simulator.Map.Put(made)
	note := "#!/bin/sh\nIFS= read -r line\nprintf '%s' \"$line\" > \"${0%/*}/told\"\n"
	for name, text := range map[string]string{"chpasswd": note, "id": "#!/bin/sh\necho 0\n"} {
		if err := ioutil.WriteFile(filepath.Join(tools, name), []byte(text), 0700); err != nil {
			panic(err)
		}
	}
}

// refuses tells why nothing can be run in a guest.
func (p *processes) refuses(vm types.ManagedObjectReference, auth types.BaseGuestAuthentication) *soap.Fault {
	if tools, _ := hears(vm.Value); !tools {
		return simulator.Fault("", new(types.GuestOperationsUnavailable))
	}
	login, ok := auth.(*types.NamePasswordAuthentication)
	if !ok || login.Username != guestUser || login.Password != os.Getenv("VCSIM_PASSWORD") {
		return simulator.Fault("", new(types.InvalidGuestLogin))
	}
	return nil
}

// StartProgramInGuest is the vendor's. VMware Tools hand program and arguments to a shell, as here.
func (p *processes) StartProgramInGuest(_ *simulator.Context, req *types.StartProgramInGuest) soap.HasFault {
	body := new(methods.StartProgramInGuestBody)
	if body.Fault_ = p.refuses(req.Vm, req.Auth); body.Fault_ != nil {
		return body
	}
	spec := req.Spec.GetGuestProgramSpec()
	line := fmt.Sprintf("%q %s", spec.ProgramPath, spec.Arguments)
	if strings.Contains(line, "/sbin") {
		body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "spec"}) // it would be this machine's own
		return body
	}
	command := exec.Command("/bin/sh", "-c", line)
	command.Dir = p.tools
	for _, variable := range spec.EnvVariables {
		if !strings.HasPrefix(variable, "PATH=") {
			command.Env = append(command.Env, variable)
		}
	}
	command.Env = append(command.Env, "PATH="+p.tools)
	_ = command.Run()
	now := time.Now()
	pid := int64(len(p.ended) + 1000)
	p.ended[pid] = types.GuestProcessInfo{Pid: pid, EndTime: &now, ExitCode: int32(command.ProcessState.ExitCode())}
	if told, err := ioutil.ReadFile(filepath.Join(p.tools, "told")); err == nil {
		_ = os.Remove(filepath.Join(p.tools, "told"))
		machines(func(vm *simulator.VirtualMachine) {
			if vm.Self == req.Vm {
				setting := &types.OptionValue{Key: login, Value: base64.StdEncoding.EncodeToString(told)}
				vm.Config.ExtraConfig = append(vm.Config.ExtraConfig, setting)
			}
		})
	}
	body.Res = &types.StartProgramInGuestResponse{Returnval: pid}
	return body
}

// ListProcessesInGuest is the vendor's.
func (p *processes) ListProcessesInGuest(_ *simulator.Context, req *types.ListProcessesInGuest) soap.HasFault {
	body := new(methods.ListProcessesInGuestBody)
	if body.Fault_ = p.refuses(req.Vm, req.Auth); body.Fault_ != nil {
		return body
	}
	body.Res = new(types.ListProcessesInGuestResponse)
	for _, pid := range req.Pids {
		if info, ok := p.ended[pid]; ok {
			body.Res.Returnval = append(body.Res.Returnval, info)
		}
	}
	return body
}

func answer(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope `+
		`xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`+
		`<soapenv:Body>%s</soapenv:Body></soapenv:Envelope>`, body)
}

// door answers for guests, and hands everything else on.
func door(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := ioutil.ReadAll(io.LimitReader(r.Body, 1<<24))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if found := asked.FindSubmatch(body); found != nil {
			tools, listens := hears(string(found[1]))
			if !tools {
				answer(w, http.StatusInternalServerError, `<soapenv:Fault><faultcode>ServerFaultCode</faultcode>`+
					`<faultstring>VMware Tools is not running.</faultstring><detail>`+
					`<ToolsUnavailableFault xmlns="urn:vim25" xsi:type="ToolsUnavailable"/></detail></soapenv:Fault>`)
				return
			}
			if !listens {
				answer(w, http.StatusOK, `<ShutdownGuestResponse xmlns="urn:vim25"/>`)
				return
			}
		}
		r.Body = ioutil.NopCloser(bytes.NewReader(body))
		if !snapshots(inner, w, r, body) && !samples(inner, w, r, body) {
			inner.ServeHTTP(w, r)
		}
	})
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address and port")
	pem := flag.String("pem", "", "file with certificate and key")
	esx := flag.Bool("esx", false, "one ESXi instead of a vCenter")
	user := flag.String("user", "panel", "who may log in")
	flag.Parse()
	log.SetOutput(ioutil.Discard)

	model := simulator.VPX()
	if *esx {
		model = simulator.ESX()
	} else {
		model.Host = 0
		model.ClusterHost = 2
	}
	model.Machine = 0
	if err := model.Create(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(*user, os.Getenv("VCSIM_PASSWORD"))}
	inside := model.Service.NewServer()

	certificate, err := tls.LoadX509KeyPair(*pem, *pem)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	socket, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := &http.Server{
		Handler:   door(model.Service.ServeMux),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
		ErrorLog:  log.New(ioutil.Discard, "", 0),
	}
	folder, err := ioutil.TempDir("", "guest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	newProcesses(folder)
	go guests()
	go func() { _ = server.ServeTLS(socket, "", "") }()
	fmt.Println(socket.Addr())

	_, _ = io.Copy(ioutil.Discard, os.Stdin)
	_ = server.Close()
	inside.Close()
	model.Remove()
}
