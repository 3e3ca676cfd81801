// The view library: components as functions, markup as tagged templates. Texts in templates are
// always text: nothing here makes markup of a string.
import { h, render, Fragment, createContext } from './vendor/preact.js';
import htm from './vendor/htm.js';

export { render, Fragment, createContext };
export {
  useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState,
} from './vendor/hooks.js';

export const html = htm.bind(h);
