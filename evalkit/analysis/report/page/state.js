// What is chosen and filtered lives in the address behind "#", so that a view can be linked. Defaults are left out.

const state = {
  values: new URLSearchParams(),
  listeners: [],

  get(key) {
    return state.values.get(key) ?? "";
  },

  // Take over changes ({key: text}, "" for the default), write the address and draw anew.
  set(changes) {
    state.values = state.changed(changes);
    history.replaceState(null, "", state.link({}));
    state.notify();
  },

  // The address of the present view with changes.
  link(changes) {
    const text = state.changed(changes).toString();
    return text ? `#${text}` : location.pathname + location.search;
  },

  changed(changes) {
    const next = new URLSearchParams(state.values);
    for (const [key, value] of Object.entries(changes)) {
      if (value === "") next.delete(key);
      else next.set(key, value);
    }
    return next;
  },

  read() {
    const text = location.hash.slice(1);
    state.values = new URLSearchParams(text.includes("=") ? text : "");
  },

  notify() {
    for (const listener of state.listeners) listener();
  },
};
