// What the pages do beyond plain links and forms: keys, the opacity of the map, and another map
// without a new page. Every page works without this file.
"use strict";

(() => {
  const KEYS_OFF = "fedlens-keys-off"; // in this browser only; WCAG 2.1.4 asks that keys can be turned off
  const root = document.documentElement;
  root.classList.add("scripted");

  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const visible = (element) => element.getClientRects().length > 0;

  function say(words) {
    const live = find("#live");
    if (live) live.textContent = words;
  }

  function remembered(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // a browser that keeps nothing
    }
  }

  // Keys

  function keysOn() {
    return remembered(KEYS_OFF) === null;
  }

  function typing(element) {
    if (element.isContentEditable || element.matches("textarea, select")) return true;
    return element.matches("input") && !["radio", "checkbox", "range"].includes(element.type);
  }

  function press(element) {
    if (element.disabled || !visible(element.closest("label") ?? element)) return false;
    if (element.matches("input[type=radio], input[type=checkbox]")) element.focus();
    element.click();
    return true;
  }

  function moveOn(group) {
    const choices = all("input[type=radio]:not(:disabled)", group);
    if (choices.length === 0 || !visible(group)) return false;
    return press(choices[(choices.findIndex((one) => one.checked) + 1) % choices.length]);
  }

  function nextOf(select) {
    if (!visible(select)) return false;
    select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
    select.dispatchEvent(new Event("change", { bubbles: true }));
    say(select.options[select.selectedIndex].text);
    return true;
  }

  function help() {
    const dialog = find("#keys");
    if (!dialog) return false;
    if (dialog.open) dialog.close();
    else dialog.showModal();
    return true;
  }

  function obey(key) {
    const wanted = CSS.escape(key);
    if (all(`[data-key="${wanted}"]`).some(press)) return true;
    if (all(`[data-cycle="${wanted}"]`).some((one) => (one.matches("select") ? nextOf(one) : moveOn(one)))) return true;
    return false;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (event.key === "Escape" && typing(event.target) && find("form.decide")) {
      event.target.blur();
      return;
    }
    const open = find("dialog[open]");
    if (event.key === "Enter" && !open && event.target === document.body) {
      const form = find("form.decide"); // Enter on the page itself sends what is chosen, or says what is not
      if (form) form.requestSubmit();
      return;
    }
    if (typing(event.target) || event.key.length !== 1 || !keysOn()) return;
    const done = event.key === "?" ? help() : open ? false : obey(event.key.toLowerCase());
    if (done) event.preventDefault();
  });

  const toggle = find("#keys-on");
  if (toggle) {
    toggle.checked = keysOn();
    toggle.addEventListener("change", () => {
      try {
        if (toggle.checked) localStorage.removeItem(KEYS_OFF);
        else localStorage.setItem(KEYS_OFF, "1");
      } catch {
        say("This browser keeps no settings; keys stay on.");
      }
      root.classList.toggle("keyless", !keysOn());
    });
    root.classList.toggle("keyless", !keysOn());
  }
  for (const opener of all("[data-opens]")) {
    opener.addEventListener("click", () => document.getElementById(opener.dataset.opens).showModal());
  }

  // The opacity of the map: shown at once, told at the first rise, and sent with the decision

  document.addEventListener("input", (event) => {
    if (!event.target.matches("[data-opacity]")) return;
    const percent = Number(event.target.value);
    for (const map of all("[data-map]")) {
      map.className = "";
      map.style.opacity = String(percent / 100);
    }
    for (const shown of all("[data-opacity-shown]")) {
      if ("value" in shown) shown.value = String(percent);
      else shown.textContent = `${percent} %`;
    }
    for (const note of all("[data-maps-off]")) note.hidden = percent > 0;
    if (percent > 0) tellOfMaps(event.target);
  });

  // The console must know that maps which waited are looked at now: it shows the page once more, which
  // leaves the record. A slider that was above 0 when the page came needs no telling. What is lost
  // here, the decision still says.
  async function tellOfMaps(slider) {
    if (Number(slider.defaultValue) > 0 || slider.dataset.told || !slider.form) return;
    slider.dataset.told = "yes";
    const query = new URLSearchParams(new FormData(slider.form));
    const address = `${slider.form.getAttribute("action")}?${query}`;
    try {
      const answer = await fetch(address, { credentials: "same-origin", redirect: "error", keepalive: true });
      await answer.text();
      if (!answer.ok) throw new Error(String(answer.status));
    } catch {
      delete slider.dataset.told; // the next time that it rises, then
    }
  }

  document.addEventListener("click", (event) => {
    const slider = event.target.closest("[data-toggle-map]") && find("[data-opacity]");
    if (!slider) return;
    slider.value = Number(slider.value) > 0 ? "0" : "90";
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    say(`Opacity ${slider.value} %`);
  });

  // Another map without a new page: only the part that shows it is fetched anew

  let asked = 0;
  async function renew(form) {
    const turn = ++asked;
    const query = new URLSearchParams(new FormData(form));
    const address = `${form.getAttribute("action")}?${query}`;
    const shown = find("#evidence");
    shown.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(address, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = find("#evidence", page);
      if (turn !== asked) return; // another was asked for meanwhile
      if (!fresh) throw new Error("no evidence");
      const focused = document.activeElement?.id;
      shown.replaceWith(fresh);
      history.replaceState(null, "", address);
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
      say(fresh.dataset.words ?? "");
    } catch {
      if (turn === asked) location.assign(address); // the plain way says what is wrong
    }
  }

  document.addEventListener("change", (event) => {
    const form = event.target.form;
    if (form?.matches("[data-renews]") && !event.target.matches("[data-opacity]")) renew(form);
  });
  document.addEventListener("submit", (event) => {
    if (event.target.matches("[data-renews]")) {
      event.preventDefault();
      renew(event.target);
    }
  });

  // The decision: what an override needs is asked for before it is sent, and nothing is sent twice

  function demand(form) {
    const overriding = find("#choice-override", form)?.checked ?? false;
    for (const one of all("[data-override]", form)) one.required = overriding;
  }
  for (const form of all("form.decide")) {
    demand(form);
    form.addEventListener("change", (event) => {
      demand(form);
      const none = find("[data-none=label]", form);
      const reason = find("[data-none=reason]", form);
      if (!none || !reason) return;
      if (event.target === none && none.checked) reason.checked = true;
      if (event.target === reason && reason.checked) none.checked = true;
      if (event.target.name === "label" && event.target !== none) reason.checked = false;
      if (event.target.name === "reason" && event.target !== reason) none.checked = false;
    });
  }
  document.addEventListener("submit", (event) => {
    if (event.target.getAttribute("method") !== "post" || event.defaultPrevented) return; // .method may be a field
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => {
    for (const form of all("form[data-sent]")) delete form.dataset.sent;
  });
})();
